"""Collecting what nothing needs: a plan first, then its execution, and never anything that a tag reaches.

Kept: every version of every tag; versions committed or used within ``keep_days``; everything those were made from; what
receipts of unfinished steps name; and anything younger than the grace period. Using a version or an object refreshes
its age, so a writer that builds on something holds it. Execution looks at everything again; what it removes first moves
aside and comes back if someone used it in between.
"""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.errors import BadName, CorruptStore
from schemas.lineage import DatasetRef, Manifest
from storage import manifests, shards, tags
from storage.commit import now
from storage.files.fs import Remote
from storage.files.objects import Disk
from storage.layout import manifest_path


class GcPlan(BaseModel):
    """What could go, at the time of planning. Written to ``gc/<plan_id>.json``, create-only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan_id: str
    created_at: str
    keep_days: float
    grace_hours: float
    versions: tuple[DatasetRef, ...]
    objects: tuple[str, ...]
    receipts: tuple[str, ...]  # below shards/
    temporary: tuple[str, ...]  # below tmp/
    freed_bytes: int


class GcReport(BaseModel):
    """What went; ``spared`` were planned but are needed or in use by now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan_id: str
    versions: tuple[DatasetRef, ...]
    objects: tuple[str, ...]
    receipts: tuple[str, ...]
    temporary: tuple[str, ...]
    spared: int
    freed_bytes: int


def plan(disk: Disk, *, keep_days: float, grace_hours: float) -> GcPlan:
    """Notes what nothing needs; removes nothing. ``CorruptStore`` if a manifest or tag cannot be read: what it needs
    cannot be known, so nothing may go.
    """
    made = _survey(disk, f"{now()[:19].replace(':', '')}-{secrets.token_hex(4)}", keep_days, grace_hours)
    data = json.dumps(made.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    disk.publish(data.encode(), disk.root / "gc" / f"{made.plan_id}.json")
    return made


def preview(disk: Disk, *, keep_days: float, grace_hours: float) -> GcPlan:
    """What ``plan`` would note now, without writing it down: for looking. Raises as ``plan``."""
    return _survey(disk, "", keep_days, grace_hours)


def execute(disk: Disk, wanted: GcPlan) -> GcReport:
    """Removes what the plan names and still nothing needs. Manifests go first, durably, so that no version is left
    with half of its objects.
    """
    _bring_back(disk, wanted.grace_hours)
    fresh = _survey(disk, wanted.plan_id, wanted.keep_days, wanted.grace_hours)
    newest = time.time() - wanted.grace_hours * 3600
    gone = _remove_versions(disk, set(fresh.versions) & set(wanted.versions), newest)
    for folder in sorted({manifest_path(disk.root, ref).parent for ref in gone}):
        disk.fs.sync_dir(folder)
    objects, freed = [], 0
    after = _survey(disk, wanted.plan_id, wanted.keep_days, wanted.grace_hours)
    # A version that stays because a later one, which the plan does not know, was made from it keeps its objects.
    held = {part.sha256 for left in _all_manifests(disk).values() for parts in left.parts.values() for part in parts}
    for sha256 in sorted(set(after.objects) & set(wanted.objects) - held):
        path = disk.object_path(sha256)
        size = _size(disk, path)
        if _remove(disk, path, newest):
            objects.append(sha256)
            freed += size
    receipts = [
        name
        for name in sorted(set(fresh.receipts) & set(wanted.receipts))
        if _remove(disk, disk.root / "shards" / name, newest)
    ]
    temporary = [
        name
        for name in sorted(set(fresh.temporary) & set(wanted.temporary))
        if _remove(disk, disk.root / "tmp" / name, newest)
    ]
    planned = len(wanted.versions) + len(wanted.objects) + len(wanted.receipts) + len(wanted.temporary)
    return GcReport(
        plan_id=wanted.plan_id,
        versions=tuple(gone),
        objects=tuple(objects),
        receipts=tuple(receipts),
        temporary=tuple(temporary),
        spared=planned - len(gone) - len(objects) - len(receipts) - len(temporary),
        freed_bytes=freed,
    )


def _remove_versions(disk: Disk, chosen: set[DatasetRef], newest: float) -> list[DatasetRef]:
    """Removes manifests, each before what it was made from: a version that turns out to be in use spares its origins."""
    everything = _all_manifests(disk)
    spared: set[DatasetRef] = set()
    gone: list[DatasetRef] = []
    for manifest in reversed(manifests.sources_first(list(everything.values()))):
        ref = manifest.ref
        if ref in chosen and ref not in spared and _remove(disk, manifest_path(disk.root, ref), newest):
            gone.append(ref)
        else:
            spared.update(manifests.origins(manifest))
    return gone


def _survey(disk: Disk, plan_id: str, keep_days: float, grace_hours: float) -> GcPlan:
    disk = disk.glance()
    clock = time.time()
    too_young = clock - grace_hours * 3600
    retained = clock - max(keep_days * 86400, grace_hours * 3600)
    everything = _all_manifests(disk)
    needed = _needed(disk, everything, retained)
    objects = {part.sha256 for ref in needed for parts in everything[ref].parts.values() for part in parts}
    receipts: list[str] = []
    for name, ref_done, held in _receipts(disk, {ref.fingerprint for ref in everything}):
        if _age_mark(disk, disk.root / "shards" / name) > (too_young if ref_done else retained):
            objects |= held
        else:
            receipts.append(name)
    loose = [
        sha256
        for sha256 in _objects(disk)
        if sha256 not in objects and _age_mark(disk, disk.object_path(sha256)) <= too_young
    ]
    return GcPlan(
        plan_id=plan_id,
        created_at=now(),
        keep_days=keep_days,
        grace_hours=grace_hours,
        versions=tuple(ref for ref in everything if ref not in needed),
        objects=tuple(loose),
        receipts=tuple(receipts),
        temporary=tuple(
            name
            for name in disk.fs.listdir(disk.root / "tmp")
            if _age_mark(disk, disk.root / "tmp" / name) <= too_young
        ),
        freed_bytes=sum(disk.fs.size(disk.object_path(sha256)) for sha256 in loose),
    )


def _all_manifests(disk: Disk) -> dict[DatasetRef, Manifest]:
    disk = disk.glance("steps")
    found: dict[DatasetRef, Manifest] = {}
    for ref in manifests.refs(disk):
        manifest = manifests.load(disk, ref)
        if manifest is not None:
            found[ref] = manifest
    return found


def _needed(disk: Disk, everything: dict[DatasetRef, Manifest], retained: float) -> set[DatasetRef]:
    roots = [version.ref for name in tags.names(disk) for version in tags.history(disk, name)]
    roots += [ref for ref in everything if _age_mark(disk, manifest_path(disk.root, ref)) > retained]
    needed: set[DatasetRef] = set()
    stack = [ref for ref in roots if ref in everything]
    while stack:
        ref = stack.pop()
        if ref not in needed:
            needed.add(ref)
            stack.extend(origin for origin in manifests.origins(everything[ref]) if origin in everything)
    return needed


def _receipts(disk: Disk, done: set[str]) -> Iterator[tuple[str, bool, set[str]]]:
    """Path below ``shards/``, whether its step is committed, the objects it names."""
    for fingerprint in disk.fs.listdir(disk.root / "shards"):
        try:
            ref = DatasetRef.parse(f"any@{fingerprint}")
        except BadName:
            continue  # not a folder of ours
        for number, content in shards.all_of(disk, ref).items():
            yield f"{fingerprint}/{number:08d}.json", fingerprint in done, set(_digests(content))


def _digests(content: Any) -> Iterator[str]:
    """Every 64-digit digest anywhere in a receipt."""
    if isinstance(content, str):
        if len(content) == 64 and set(content) <= set("0123456789abcdef"):
            yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _digests(value)
    elif isinstance(content, list):
        for value in content:
            yield from _digests(value)


def _objects(disk: Disk) -> Iterator[str]:
    for prefix in disk.fs.listdir(disk.root / "objects"):
        for name in disk.fs.listdir(disk.root / "objects" / prefix):
            if len(name) == 64 and name.startswith(prefix):
                yield name


def _age_mark(disk: Disk, path: Path) -> float:
    """When the name was last put or used; a name that just vanished counts as new, so nobody touches it."""
    try:
        return disk.fs.mtime(path)
    except FileNotFoundError:
        return float("inf")


def _size(disk: Disk, path: Path) -> int:
    try:
        return disk.fs.size(path)
    except FileNotFoundError:
        return 0


_ASIDE = ".aside"


def _remove(disk: Disk, path: Path, newest: float) -> bool:
    """Moves the name aside, looks at its age once more, then removes it, or puts it back if it is in use by now."""
    if isinstance(disk.fs, Remote) and disk.fs.holds(path):
        return disk.fs.remove_unused(path, newest)  # nothing can be moved aside there
    if _age_mark(disk, path) > newest:
        return False
    where = str(path.relative_to(disk.root)).replace("/", "!")
    aside = disk.root / "tmp" / f"{where}!{secrets.token_hex(4)}{_ASIDE}"
    try:
        disk.fs.rename(path, aside)
    except FileNotFoundError:
        return False
    if disk.fs.mtime(aside) > newest:
        _put_back(disk, aside)
        return False
    disk.discard(aside)
    return True


def _put_back(disk: Disk, aside: Path) -> None:
    target = disk.root.joinpath(*aside.name.removesuffix(_ASIDE).split("!")[:-1])
    disk.restore(aside, target)
    disk.discard(aside)


def _bring_back(disk: Disk, grace_hours: float) -> None:
    """Undoes what an earlier execution moved aside and was killed before judging."""
    newest = time.time() - grace_hours * 3600
    for name in disk.fs.listdir(disk.root / "tmp"):
        if name.endswith(_ASIDE) and _age_mark(disk, disk.root / "tmp" / name) > newest:
            _put_back(disk, disk.root / "tmp" / name)


def load_plan(disk: Disk, plan_id: str) -> GcPlan:
    """A plan that was written earlier; ``CorruptStore`` if there is none of that id or it cannot be read."""
    path = disk.root / "gc" / f"{plan_id}.json"
    if "/" in plan_id or plan_id.startswith("."):
        raise BadName(f"{plan_id!a} is no plan id; `provender gc` prints one")
    try:
        return GcPlan.model_validate_json(disk.fs.read(path))
    except (FileNotFoundError, ValueError) as error:
        raise CorruptStore(f"{path} is no plan; `provender gc` makes a new one") from error
