"""A file system with a page cache that forgets: what was not synced may be lost, halved or zeroed when the power goes.

Names live in folders, each with an ordered list of changes that are not on the device yet; ``sync_dir`` puts a folder's
names there, a file's ``sync`` its bytes. Neither does the other's work, which is weaker than any real file system.
"""

import io
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from storage.files.fs import Sink

Lost = ("empty", "zeros", "half", "all")  # what un-synced bytes may look like afterwards


@dataclass(eq=False)
class Inode:
    """A file or a folder, whatever names it has."""

    folder: bool = False
    data: bytes = b""
    synced: bytes | None = None  # None: never
    mtime: float = field(default_factory=time.time)
    names: dict[str, "Inode"] = field(default_factory=dict)  # of a folder, as programs see it
    durable: dict[str, "Inode"] = field(default_factory=dict)  # of a folder, as on the device
    pending: list[tuple[str, "Inode | None"]] = field(default_factory=list)  # name now means this; None = removed

    def bind(self, name: str, what: "Inode | None") -> None:
        if what is None:
            del self.names[name]
        else:
            self.names[name] = what
        self.pending.append((name, what))


class SimulatedSink:
    def __init__(self, fs: "SimulatedFileSystem", path: Path, inode: Inode) -> None:
        self.fs, self.path, self.inode = fs, path, inode

    def write(self, data: bytes, /) -> int:
        self.fs.step("write", self.path)
        self.inode.data += data
        self.fs.done()
        return len(data)

    def sync(self) -> None:
        self.fs.step("sync", self.path)
        if not self.fs.drops_sync(self.path):
            self.inode.synced = self.inode.data
        self.fs.done()

    def close(self) -> None:
        pass


class SimulatedFileSystem:
    """Implements ``storage.files.fs.FileSystem``. ``after`` is called after every change; ``mutant`` names a broken promise."""

    def __init__(self, root: Inode | None = None, mutant: str = "") -> None:
        self.root = root or Inode(folder=True)
        self.mutant = mutant
        self.after: Callable[[], None] = lambda: None
        self.before: Callable[[str, Path], None] = lambda op, path: None
        self._linked: set[Path] = set()
        self._skipped: set[Path] = set()

    def step(self, op: str, path: Path) -> None:
        self.before(op, path)

    def done(self) -> None:
        self.after()

    def drops_sync(self, path: Path) -> bool:
        return (self.mutant == "no fsync of data" and path.suffix == ".object") or (
            self.mutant == "no fsync of manifests" and path.suffix == ".json"
        )

    def create(self, path: Path) -> Sink:
        self.step("create", path)
        folder = self._folder(path.parent)
        if path.name in folder.names:
            raise FileExistsError(str(path))
        inode = Inode()
        folder.bind(path.name, inode)
        self.done()
        return SimulatedSink(self, path, inode)

    def rename(self, source: Path, target: Path) -> None:
        self.step("rename", target)
        inode = self._inode(source)
        if self.mutant == "skip if the name exists" and self.exists(target):
            self._skipped.add(target.parent)
        else:
            self._folder(target.parent).bind(target.name, inode)
        self._folder(source.parent).bind(source.name, None)
        self.done()

    def link(self, source: Path, target: Path) -> None:
        self.step("link", target)
        inode, folder = self._inode(source), self._folder(target.parent)
        if target.name in folder.names:
            raise FileExistsError(str(target))
        folder.bind(target.name, inode)
        self._linked.add(target.parent)
        self.done()

    def rename_exclusive(self, source: Path, target: Path) -> None:
        self.link(source, target)
        self.unlink(source)

    def sync_dir(self, path: Path) -> None:
        self.step("sync_dir", path)
        folder = self._folder(path)
        mine = path in self._linked
        self._linked.discard(path)
        log = path.parent.name in ("steps", "tags")
        dropped = (
            (self.mutant == "no fsync of object folders" and path.parent.name == "objects")
            or (self.mutant == "no fsync of new folders' parents" and path.name in ("objects", "steps", "tags"))
            or (self.mutant == "no fsync of the log" and log and mine)
            or (self.mutant == "no fsync when rejoining" and log and not mine)
            or path in self._skipped
        )
        self._skipped.discard(path)
        if not dropped:
            folder.durable = dict(folder.names)
            folder.pending = []
        self.done()

    def unlink(self, path: Path) -> None:
        self.step("unlink", path)
        self._inode(path)
        self._folder(path.parent).bind(path.name, None)
        self.done()

    def mkdir(self, path: Path) -> None:
        self.step("mkdir", path)
        parent = self._folder(path.parent)
        if path.name in parent.names:
            raise FileExistsError(str(path))
        parent.bind(path.name, Inode(folder=True))
        self.done()

    def listdir(self, path: Path) -> list[str]:
        try:
            return sorted(self._folder(path).names)
        except FileNotFoundError:
            return []

    def read(self, path: Path) -> bytes:
        self.step("read", path)
        return self._inode(path).data

    def mtime(self, path: Path) -> float:
        self.step("mtime", path)
        return self._inode(path).mtime

    def touch(self, path: Path) -> None:
        self.step("touch", path)
        self._inode(path).mtime = time.time()

    def size(self, path: Path) -> int:
        return len(self._inode(path).data)

    def exists(self, path: Path) -> bool:
        self.step("exists", path)
        try:
            self._inode(path)
        except FileNotFoundError:
            return False
        return True

    def source(self, path: Path) -> str | IO[bytes]:
        return io.BytesIO(self.read(path))

    def _inode(self, path: Path) -> Inode:
        inode = self.root
        for part in path.parts[1:]:
            if not inode.folder or part not in inode.names:
                raise FileNotFoundError(str(path))
            inode = inode.names[part]
        return inode

    def _folder(self, path: Path) -> Inode:
        inode = self._inode(path)
        if not inode.folder:
            raise FileNotFoundError(str(path))
        return inode


def copied(root: Inode) -> Inode:
    """The whole state, page cache included: what a process that is killed leaves to the next."""
    twins: dict[int, Inode] = {}

    def twin(inode: Inode) -> Inode:
        if id(inode) not in twins:
            new = twins[id(inode)] = Inode(inode.folder, inode.data, inode.synced, inode.mtime)
            new.names = {name: twin(child) for name, child in inode.names.items()}
            new.durable = {name: twin(child) for name, child in inode.durable.items()}
            new.pending = [(name, None if child is None else twin(child)) for name, child in inode.pending]
        return twins[id(inode)]

    return twin(root)


Image = tuple[tuple[str, bytes | None], ...]  # every path with its bytes, None for a folder; sorted


def after_power_loss(root: Inode, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[Image]:
    """Every state the device may be in: each prefix of each folder's pending names × each fate of un-synced bytes.

    Names in ``tmp`` are never read again, so there only none or all of the pending ones count. States whose number is
    not ``wanted`` are left out before they are put together.
    """
    folders = [(path, inode) for path, inode in _walk(root, "") if inode.pending]
    cuts = [
        (0, len(inode.pending)) if path.endswith("/tmp") else range(len(inode.pending) + 1) for path, inode in folders
    ]
    for number, (choice, lost) in enumerate(itertools.product(itertools.product(*cuts), Lost)):
        if wanted(number):
            upto = {id(inode): cut for (_, inode), cut in zip(folders, choice, strict=True)}
            yield tuple(sorted(_surviving(root, "", upto, lost)))


def shown(root: Inode, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Every file as programs see it, but for those in ``tmp``, which nothing reads again."""
    for name, child in sorted(root.names.items()):
        if child.folder and not path.endswith("/tmp"):
            yield from shown(child, f"{path}/{name}")
        elif not child.folder and not path.endswith("/tmp"):
            yield f"{path}/{name}", child.data


def _walk(inode: Inode, path: str) -> Iterator[tuple[str, Inode]]:
    yield path, inode
    for name, child in {**inode.durable, **inode.names}.items():
        if child.folder:
            yield from _walk(child, f"{path}/{name}")


def _surviving(inode: Inode, path: str, upto: dict[int, int], lost: str) -> Iterator[tuple[str, bytes | None]]:
    names = dict(inode.durable)
    for name, what in inode.pending[: upto.get(id(inode), 0)]:
        if what is None:
            names.pop(name, None)
        else:
            names[name] = what
    for name, child in names.items():
        here = f"{path}/{name}"
        if child.folder:
            yield here, None
            yield from _surviving(child, here, upto, lost)
        else:
            yield here, _bytes(child, lost)


def _bytes(inode: Inode, lost: str) -> bytes:
    if inode.synced == inode.data:
        return inode.data
    kept = {
        "empty": b"",
        "zeros": bytes(len(inode.data)),
        "half": inode.data[: len(inode.data) // 2],
        "all": inode.data,
    }
    return kept[lost]


def mounted(image: Image, mutant: str = "") -> SimulatedFileSystem:
    """A file system as it comes up after the power loss: everything it shows is on the device."""
    root = Inode(folder=True)
    for path, data in image:
        folder = root
        *above, name = path.strip("/").split("/")
        for part in above:
            folder = folder.names[part]
        inode = Inode(folder=data is None, data=data or b"", synced=data)
        folder.names[name] = folder.durable[name] = inode
    return SimulatedFileSystem(root, mutant)
