"""The commit: check conservation, make inputs durable, publish the manifest once, acknowledge.

1. the parts are durable already (``objects.put``: tmp, fsync, rename, fsync of the folder; always re-put)
2. derive counts and reasons from the parts as they lie on disk; what does not conserve its rows stops here
3. make the manifests this one builds on durable, and mark them and every object as in use against ``gc``
4. manifest to tmp, fsync, ``link`` to ``steps/<stage>/<fingerprint>.json``, fsync of that folder
5. taken already: the first durable result wins; fsync of that folder all the same, return what is there (*rejoin*)
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from schemas.errors import CorruptStore, InvariantViolation, StoreUnwritable
from schemas.identity import canonical_json
from schemas.lineage import Counts, DatasetRef, Manifest
from storage import gather, manifests
from storage.draft import Draft, in_use
from storage.files.objects import Disk
from storage.layout import manifest_path

if TYPE_CHECKING:
    from storage.invariants import Facts, Members

log = logging.getLogger("provender")


def commit(disk: Disk, draft: Draft) -> Manifest:
    """The version of the draft's step: the draft's, or the one another run finished first.

    Raises ``InvariantViolation`` before anything is visible, ``StoreUnwritable`` if the disk refuses.
    """
    from storage.invariants import derive  # with NumPy, which who only reads a row does without

    manifest = _unchecked(draft)
    derived = derive(facts(disk, manifest))
    manifest = manifest.model_copy(update={"counts": derived.counts, "reasons": derived.reasons})
    manifest = _lean_on(disk, manifest)
    there = held(disk, manifest.ref)
    if there is not None:
        return there
    if disk.publish(manifests.dump(manifest), manifest_path(disk.root, manifest.ref)):
        return manifest
    return _held(disk, manifest.ref)


def held(disk: Disk, ref: DatasetRef) -> Manifest | None:
    """The version, if it is there: durable from now on, and held against ``gc`` for its grace period."""
    path = manifest_path(disk.root, ref)
    try:
        disk.fs.touch(path)
    except FileNotFoundError:
        return None
    except StoreUnwritable:
        log.debug("%s is read-only: nothing can be built on it, so nothing needs holding", path)
    manifest = manifests.load(disk, ref)
    if manifest is not None:
        disk.rejoin(path)
    return manifest


def _held(disk: Disk, ref: DatasetRef) -> Manifest:
    manifest = held(disk, ref)
    if manifest is None:
        raise CorruptStore(f"{ref} was removed while it was being used; run again")
    return manifest


def now() -> str:
    """UTC, ISO 8601, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def facts(disk: Disk, manifest: Manifest, known: Callable[[DatasetRef], Manifest | None] | None = None) -> "Facts":
    """What the conservation check reads, straight from the files."""
    from storage.invariants import Facts, Members

    loaded: dict[str, Manifest | None] = {}

    def find(ref: DatasetRef) -> Manifest | None:
        if str(ref) not in loaded:
            loaded[str(ref)] = known(ref) if known else manifests.load(disk, ref)
        return loaded[str(ref)]

    def members_of(ref: DatasetRef) -> "Members | None":
        version = find(ref)
        return None if version is None else Members(gather.positions(disk, version), version.homes or (ref,))

    def examples_of(ref: DatasetRef) -> int | None:
        version = find(ref)
        return None if version is None else gather.rows_of(version, "examples")

    def ids_of(ref: DatasetRef) -> pl.Series:
        version = find(ref)
        return (
            pl.Series("id", [], dtype=pl.Binary)
            if version is None
            else gather.read(disk, version, "examples", ["id"])["id"]
        )

    def columns(part: str, names: Sequence[str]) -> pl.DataFrame:
        frame = gather.read(disk, manifest, part, names)
        if frame.height != gather.rows_of(manifest, part):
            raise CorruptStore(
                f"{manifest.ref}: part {part} holds {frame.height} rows, the manifest says "
                f"{gather.rows_of(manifest, part)}; run `provender verify`"
            )
        return frame

    return Facts(
        step=manifest.step,
        homes=manifest.homes,
        rules=manifest.rules,
        parts=frozenset(manifest.parts),
        columns=columns,
        rows=lambda part: gather.rows_of(manifest, part),
        members_of=members_of,
        examples_of=examples_of,
        ids_of=ids_of,
    )


def _unchecked(draft: Draft) -> Manifest:
    parts = {name: tuple(draft.parts[name]) for name in sorted(draft.parts)}
    homes = list(draft.homes)
    ref = draft.step.output
    if "examples" in parts and ref not in homes:
        homes.append(ref)
    names = [rule.name for rule in draft.rules]
    if len(set(names)) != len(names):
        raise InvariantViolation(f"{ref}: two rules share a name ({', '.join(names)}); reasons could not be told apart")
    canonical_json([draft.summary, draft.run])  # refuses NaN and what JSON cannot hold, rather than write null
    return Manifest(
        ref=ref,
        step=draft.step,
        counts=Counts(),
        rules=tuple(draft.rules),
        homes=tuple(homes),
        parts=parts,
        digest=manifests.digest_of(parts),
        summary=dict(draft.summary),
        run={**draft.run, "committed_at": now()},
        commit_id=secrets.token_hex(16),
        nondeterministic=draft.nondeterministic,
    )


def _lean_on(disk: Disk, manifest: Manifest) -> Manifest:
    """Everything this version needs is durable and in use; the manifest gets its seal."""
    for parts in manifest.parts.values():
        for part in parts:
            in_use(disk, part, str(manifest.ref))
    seals: list[str] = []
    for ref in manifests.origins(manifest):
        seals.append(_held(disk, ref).seal)
    return manifests.sealed(manifest, seals)
