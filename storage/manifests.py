"""Reading and sealing manifests: one JSON file per finished step, create-only, written last."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from schemas.errors import BadName, CorruptStore, InvariantViolation, NewerStore
from schemas.identity import canonical_json
from schemas.lineage import FORMAT, DatasetRef, Manifest, Part
from storage.files.objects import Disk
from storage.layout import manifest_path

_WAY_OUT = "remove that file and run its recipe again"

log = logging.getLogger("provender")


def load(disk: Disk, ref: DatasetRef) -> Manifest | None:
    """The manifest of a ref, or None if no such step finished.

    Raises ``CorruptStore`` if the file is not a manifest of this ref and ``NewerStore`` if a newer release wrote it.
    """
    path = manifest_path(disk.root, ref)
    try:
        data = disk.fs.read(path)
    except FileNotFoundError:
        return None
    return parse(data, ref, disk.shown(path))


def parse(data: bytes, ref: DatasetRef, path: str) -> Manifest:
    """Bytes as the manifest of ``ref``; ``path`` is for the message."""
    try:
        content = json.loads(data)
        written_by = content.get("format", 0) if isinstance(content, dict) else 0
        if isinstance(written_by, int) and written_by > FORMAT:
            raise NewerStore(f"{path} has format {written_by}, this release reads up to {FORMAT}; upgrade provender")
        manifest = Manifest.model_validate(content)
    except (ValueError, ValidationError, RecursionError) as error:
        raise CorruptStore(f"{path} is no manifest ({_first_line(error)}); {_WAY_OUT}") from error
    if manifest.ref != ref or manifest.step.output != ref:
        raise CorruptStore(f"{path} describes {manifest.step.output}, not {ref}; {_WAY_OUT}")
    return manifest


def dump(manifest: Manifest) -> bytes:
    """The file's bytes: JSON a person can read, keys sorted."""
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def sealed(manifest: Manifest, seals: Sequence[str]) -> Manifest:
    """The manifest with its seal, given those of its origins in order; what cannot be hashed is refused."""
    content = manifest.model_dump(mode="json")
    try:
        return manifest.model_copy(update={"seal": seal_of(content, seals)})
    except UnicodeEncodeError as error:
        raise InvariantViolation(f"{manifest.ref}: a lone surrogate cannot be stored; clean the text first") from error


def seal_of(content: Mapping[str, Any], seals: Sequence[str]) -> str:
    """SHA-256 over a manifest's JSON as it lies there, less its seal, and the seals of its origins in order.

    Taken from the file, not from the model: a field that a later release adds must not break the seals of before.
    """
    rest = {name: value for name, value in content.items() if name != "seal"}
    return hashlib.sha256(canonical_json([rest, list(seals)]).encode()).hexdigest()


def digest_of(parts: Mapping[str, tuple[Part, ...]]) -> str:
    """SHA-256 over the parts' digests by name and order: the digest of a version's bytes."""
    digests = {name: [part.sha256 for part in objects] for name, objects in parts.items()}
    return hashlib.sha256(canonical_json(digests).encode()).hexdigest()


def refs(disk: Disk) -> Iterator[DatasetRef]:
    """Every finished step, by stage and fingerprint; other names in the folders are none of ours."""
    for stage in disk.fs.listdir(disk.root / "steps"):
        for name in disk.fs.listdir(disk.root / "steps" / stage):
            if name.endswith(".json"):
                try:
                    yield DatasetRef.parse(f"{stage}@{name.removesuffix('.json')}")
                except BadName:
                    log.warning("steps/%s/%s is not a manifest's name; it is ignored", ascii(stage), ascii(name))


def sound(disk: Disk) -> list[Manifest]:
    """Every manifest that can be read, oldest first. Others are logged and left to ``verify``: one bad file takes
    nothing else down.
    """
    disk = disk.glance("steps")
    found: list[Manifest] = []
    for ref in refs(disk):
        try:
            manifest = load(disk, ref)
        except (CorruptStore, NewerStore) as error:
            log.warning("skipped: %s", error)
        else:
            if manifest is not None:
                found.append(manifest)
    by_time = sorted(found, key=lambda manifest: (str(manifest.run.get("committed_at", "")), str(manifest.ref)))
    return sources_first(by_time)


def sources_first(by_time: Sequence[Manifest]) -> list[Manifest]:
    """In this order, but no version before one it was made from: clocks jump, and machines have their own."""
    known = {str(manifest.ref): manifest for manifest in by_time}
    done: dict[str, Manifest] = {}
    for manifest in by_time:
        stack = [manifest]
        waiting: set[str] = set()
        while stack:
            top = stack[-1]
            waiting.add(str(top.ref))
            missing = [known[str(o)] for o in origins(top) if str(o) in known and str(o) not in done]
            missing = [origin for origin in missing if str(origin.ref) not in waiting]
            if missing and str(top.ref) not in done:
                stack += missing
            else:
                done.setdefault(str(top.ref), stack.pop())
    return list(done.values())


def topological(wanted: Sequence[DatasetRef], find: Callable[[DatasetRef], Manifest]) -> list[Manifest]:
    """The wanted versions and all they came from, sources first, each once."""
    done: dict[DatasetRef, Manifest] = {}
    stack = [(ref, False) for ref in reversed(wanted)]
    seen: dict[DatasetRef, Manifest] = {}
    while stack:
        ref, expanded = stack.pop()
        if ref in done:
            continue
        if expanded:
            done[ref] = seen[ref]
            continue
        if ref in seen:
            continue
        seen[ref] = find(ref)
        stack.append((ref, True))
        stack.extend((parent, False) for parent in reversed(origins(seen[ref])))
    return list(done.values())


def downstream(start: Manifest, everything: Sequence[Manifest]) -> list[Manifest]:
    """A version and all of ``everything`` that was made from it, each after what it was made from."""
    children: dict[str, list[Manifest]] = {}
    for manifest in everything:
        for origin in origins(manifest):
            children.setdefault(str(origin), []).append(manifest)
    reached: dict[str, Manifest] = {str(start.ref): start}
    stack = [start]
    while stack:
        for child in children.get(str(stack.pop().ref), []):
            if str(child.ref) not in reached:
                reached[str(child.ref)] = child
                stack.append(child)
    waiting = {name: sum(str(origin) in reached for origin in origins(manifest)) for name, manifest in reached.items()}
    waiting[str(start.ref)] = 0
    ordered: list[Manifest] = []
    ready = [start]
    while ready:
        manifest = ready.pop(0)
        ordered.append(manifest)
        for child in children.get(str(manifest.ref), []):
            waiting[str(child.ref)] -= 1
            if waiting[str(child.ref)] == 0:
                ready.append(child)
    return ordered


def origins(manifest: Manifest) -> list[DatasetRef]:
    """What a version was made from or points into: inputs in order, then homes; itself left out."""
    named = [*(ref for _, ref in manifest.step.inputs), *manifest.homes]
    return [ref for ref in dict.fromkeys(named) if ref != manifest.ref]


def _first_line(error: Exception) -> str:
    return str(error).strip().replace("\n", "; ")[:200]
