"""The local file system with a fault at the n-th change: a full disk, a failing device, or the end of the process."""

import errno
import os
from pathlib import Path

from storage.files.fs import LocalFile, LocalFileSystem, Sink, refuse


class Killed(BaseException):
    """What SIGKILL would do at this place: no change after it happens."""


class FaultySink(LocalFile):
    def __init__(self, fs: "FaultyFileSystem", path: Path) -> None:
        super().__init__(path)
        self.fs, self.path = fs, path

    def write(self, data: bytes, /) -> int:
        self.fs.change("write", self.path)
        return super().write(data)

    def sync(self) -> None:
        self.fs.change("sync", self.path)
        super().sync()


class FaultyFileSystem(LocalFileSystem):
    """Fails the change number ``at`` (counted from 1) of the kinds in ``of``; a kill and a full disk go on failing."""

    KINDS = ("create", "write", "sync", "rename", "link", "sync_dir", "mkdir", "unlink", "touch")

    def __init__(self, at: int = 0, error: int | None = errno.ENOSPC, of: tuple[str, ...] = KINDS) -> None:
        self.at = at
        self.error = error  # None: killed
        self.of = of
        self.changes = 0
        self.hit = ""

    def change(self, kind: str, path: Path) -> None:
        if kind not in self.of:
            return
        self.changes += 1
        if self.at and self.changes >= self.at:
            self.hit = self.hit or kind
            if self.error is None:
                raise Killed(kind)
            if self.changes == self.at or self.error in (errno.ENOSPC, errno.EROFS):
                refuse(OSError(self.error, os.strerror(self.error)), kind, path)

    def create(self, path: Path) -> Sink:
        self.change("create", path)
        return FaultySink(self, path)

    def rename(self, source: Path, target: Path) -> None:
        self.change("rename", target)
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self.change("link", target)
        super().link(source, target)

    def sync_dir(self, path: Path) -> None:
        self.change("sync_dir", path)
        super().sync_dir(path)

    def mkdir(self, path: Path) -> None:
        self.change("mkdir", path)
        super().mkdir(path)

    def unlink(self, path: Path) -> None:
        self.change("unlink", path)
        super().unlink(path)

    def touch(self, path: Path) -> None:
        self.change("touch", path)
        super().touch(path)
