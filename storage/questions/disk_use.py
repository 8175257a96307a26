"""What takes the room of a store, by kind: its record (objects, manifests), what was paid for, models, what was left behind."""

import os
from collections.abc import Iterator
from pathlib import Path

from storage.files.fs import FileSystem, Remote
from storage.files.objects import Disk
from storage.questions.view import View

#: First name below the root → what it is, in words, and whether it can be made again.
_KINDS = {
    "objects": ("objects", "examples, verdicts, links and calls of every version"),
    "steps": ("manifests", "one for each version"),
    "tags": ("tags", "their logs"),
    "reviews": ("reviews", "what people said about hits"),
    "shards": ("receipts of shards", "let an unfinished step go on where it stopped"),
    "calls.sqlite": ("paid calls", "so that none is paid twice"),
    "vectors.sqlite": ("vectors", "embeddings, so that none is worked out twice"),
    "models": ("models", "adapters and weights that were trained"),
    "proxies": ("small models for ranking", "can be trained again"),
    "reports": ("reports and cards", "written after each run; can be made again"),
    "runs": ("logs of runs", "for display alone"),
    "measured": ("measurements of mixtures", "so that none is trained twice"),
    "gc": ("plans of gc", "notes alone"),
    "tmp": ("temporary files", "of writers at work, or that were killed"),
}


class Use(View):
    """One kind of thing. ``here`` is False for what lies in a bucket."""

    kind: str
    says: str
    name: str  # below the store's folder
    files: int
    bytes: int
    here: bool = True


def disk_use(disk: Disk) -> tuple[Use, ...]:
    """Files and bytes by kind, the largest first. Of a store in a bucket also what this machine keeps beside it."""
    found = _summed(_files(disk.root), here=True, remote=isinstance(disk.fs, Remote))
    if isinstance(disk.fs, Remote):
        seen = disk.glance()
        for name in ("steps", "tags", "shards", "objects"):
            sizes = list(_sizes(seen.fs, disk.root / name))
            if sizes:
                kind, says = _KINDS[name]
                found.append(Use(kind=kind, says=says, name=name, files=len(sizes), bytes=sum(sizes), here=False))
    return tuple(sorted(found, key=lambda use: (-use.bytes, use.name)))


def _summed(files: Iterator[tuple[str, int]], *, here: bool, remote: bool) -> list[Use]:
    sums: dict[str, tuple[int, int]] = {}
    for name, size in files:
        first = name.removesuffix("-wal").removesuffix("-shm").removesuffix("-journal")
        count, total = sums.get(first, (0, 0))
        sums[first] = (count + 1, total + size)
    found: list[Use] = []
    for name, (count, total) in sums.items():
        kind, says = _KINDS.get(name, ("other files", "nothing that this release writes" if name != "FORMAT" else ""))
        if remote and name == "objects":
            kind, says = "copies of objects on this machine", "come again from the bucket"
        if name == "FORMAT" or (remote and name == "probe.json"):
            kind, says = "the store's format", "what it promises"
        found.append(Use(kind=kind, says=says, name=name, files=count, bytes=total, here=here))
    return found


def _files(root: Path) -> Iterator[tuple[str, int]]:
    """First name below the root and size of every file; links are not followed, what vanishes meanwhile is left out."""
    waiting: list[tuple[str, str]] = [("", str(root))]
    while waiting:
        first, folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue  # removed, or not ours to read
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((first or entry.name, entry.path))
                else:
                    yield first or entry.name, entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue


def _sizes(fs: FileSystem, folder: Path) -> Iterator[int]:
    """Sizes of everything below a folder of a bucket, from one listing."""
    for name in fs.listdir(folder):
        try:
            yield fs.size(folder / name)
        except FileNotFoundError:
            yield from _sizes(fs, folder / name)
