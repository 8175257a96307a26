"""The few operations the store asks of a file system, as a protocol, and the local one that really syncs.

Everything durable goes through these verbs, so that a test can put a file system underneath that loses what was not
synced. Names that are absent raise ``FileNotFoundError`` and names that are taken raise ``FileExistsError``; every other
failure of a change is a ``StoreUnwritable`` and every other failure of a read a ``CorruptStore``.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol, runtime_checkable

from schemas.errors import CorruptStore, StoreUnwritable

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}
_NO_RENAMEAT2 = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_WAY_OUT = {
    errno.ENOSPC: "free some space (`provender gc` lists what can go) and run again",
    errno.EDQUOT: "free some of your quota and run again",
    errno.EROFS: "the file system is mounted read-only; choose another store with --store",
    errno.EACCES: "give this user write permission on the store, or choose another with --store",
    errno.EPERM: "give this user write permission on the store, or choose another with --store",
    errno.EIO: "the device reports an I/O error; check it, then run `provender verify`",
    errno.EMFILE: "raise the limit of open files (ulimit -n) and run again",
    errno.ENFILE: "close other programs that hold many files open and run again",
}


class Unsupported(OSError):
    """The file system lacks this operation (no hard links, no exclusive rename)."""


class Sink(Protocol):
    """A new file that is being written; ``write`` takes all of the bytes or raises."""

    def write(self, data: bytes, /) -> int:
        """Appends all of it."""
        ...

    def sync(self) -> None:
        """Returns when data and length are on the device."""
        ...

    def close(self) -> None:
        """Ends the writing; says nothing about durability."""
        ...


class FileSystem(Protocol):
    """What the store needs. Paths are absolute; ``rename`` replaces, ``link`` and ``rename_exclusive`` never do."""

    def create(self, path: Path) -> Sink:
        """A new file; ``FileExistsError`` if the name is taken."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Atomic, replaces the target."""
        ...

    def link(self, source: Path, target: Path) -> None:
        """Atomic, create-only; ``Unsupported`` without hard links."""
        ...

    def rename_exclusive(self, source: Path, target: Path) -> None:
        """Atomic, create-only; ``Unsupported`` where there is no such call."""
        ...

    def sync_dir(self, path: Path) -> None:
        """Returns when the names in a folder are on the device."""
        ...

    def unlink(self, path: Path) -> None:
        """Removes a name."""
        ...

    def listdir(self, path: Path) -> list[str]:
        """Names in a folder, sorted; none if it is absent."""
        ...

    def mkdir(self, path: Path) -> None:
        """A new folder."""
        ...

    def read(self, path: Path) -> bytes:
        """All bytes of a file."""
        ...

    def mtime(self, path: Path) -> float:
        """When the name was last put or touched, in seconds since the epoch."""
        ...

    def touch(self, path: Path) -> None:
        """Sets that to now."""
        ...

    def size(self, path: Path) -> int:
        """Bytes of a file."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether the name is there."""
        ...

    def source(self, path: Path) -> str | IO[bytes]:
        """What a Parquet reader opens."""
        ...


@runtime_checkable
class Remote(Protocol):
    """What a file system has beside its verbs when the record lies elsewhere: see ``storage/files/object_store.py``."""

    @property
    def address(self) -> str:
        """Where, as a person writes it."""
        ...

    def holds(self, path: Path) -> bool:
        """Whether a name belongs to the record, rather than to this machine."""
        ...

    def prove(self) -> str:
        """How names are created only once, tried now."""
        ...

    def check(self) -> None:
        """The same, unless it was tried lately."""
        ...

    def fetch(self, path: Path) -> Path:
        """A fresh, verified copy of an object."""
        ...

    def remove_unused(self, path: Path, newest: float) -> bool:
        """Removes a name that nobody put or used after ``newest``, safe beside writers."""
        ...

    def glance(self, folders: tuple[str, ...] = ...) -> FileSystem:
        """The same file system, answering from one listing made now."""
        ...

    def recent(self) -> FileSystem:
        """The same, from a listing that may be a moment old."""
        ...

    def stamp(self, path: Path) -> tuple[str, int] | None:
        """What changes when a file does; None if it is not there."""
        ...


class LocalFile:
    """A file opened O_EXCL | O_NOFOLLOW. Unbuffered: what ``write`` returned from is in the kernel."""

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        self._fd = os.open(path, flags, 0o600)

    def write(self, data: bytes, /) -> int:
        """All bytes, however many calls the kernel takes for them."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            refuse(error, "write", self._path)
        return len(data)

    def sync(self) -> None:
        """Data and length on the device. A failure is final: the kernel may have dropped the pages (never retried)."""
        try:
            _sync(self._fd)
        except OSError as error:
            refuse(error, "sync", self._path)

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class LocalFileSystem:
    """A POSIX file system. Folders are 0700 and files 0600: a store holds training data and prompts."""

    def create(self, path: Path) -> Sink:
        """A new file; ``FileExistsError`` if the name is taken, links included."""
        try:
            return LocalFile(path)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError as error:
            refuse(error, "create", path)

    def rename(self, source: Path, target: Path) -> None:
        """Atomic, replaces."""
        try:
            os.rename(source, target)
        except FileNotFoundError:
            raise
        except OSError as error:
            refuse(error, "rename to", target)

    def link(self, source: Path, target: Path) -> None:
        """Atomic, create-only. ``Unsupported`` where there are no hard links (exFAT, some FUSE and network mounts)."""
        try:
            os.link(source, target, follow_symlinks=False)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise Unsupported(error.errno, "no hard links", str(target)) from error
            refuse(error, "link", target)

    def rename_exclusive(self, source: Path, target: Path) -> None:
        """Atomic and create-only: ``renameat2(RENAME_NOREPLACE)``, on macOS ``renamex_np(RENAME_EXCL)``."""
        code = _rename_exclusive(os.fsencode(source), os.fsencode(target))
        if code == errno.EEXIST:
            raise FileExistsError(code, os.strerror(code), str(target))
        if code == errno.ENOENT:
            raise FileNotFoundError(code, os.strerror(code), str(source))
        if code in _NO_RENAMEAT2:
            raise Unsupported(code, "no exclusive rename", str(target))
        if code:
            refuse(OSError(code, os.strerror(code)), "rename to", target)

    def sync_dir(self, path: Path) -> None:
        """The names in a folder on the device."""
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
            try:
                _sync(fd)
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            refuse(error, "sync the folder", path)

    def unlink(self, path: Path) -> None:
        """One name less; ``FileNotFoundError`` if it was not there."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            refuse(error, "remove", path)

    def listdir(self, path: Path) -> list[str]:
        """Names in a folder, sorted; none if there is no such folder."""
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unreadable(error, path) from error

    def mkdir(self, path: Path) -> None:
        """A new folder, 0700; ``FileExistsError`` if it is there."""
        try:
            os.mkdir(path, 0o700)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError as error:
            refuse(error, "make the folder", path)

    def read(self, path: Path) -> bytes:
        """All bytes."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        except OSError as error:
            raise _unreadable(error, path) from error

    def mtime(self, path: Path) -> float:
        """Seconds since the epoch at which the name was last put, used or touched."""
        return os.stat(path, follow_symlinks=False).st_mtime

    def touch(self, path: Path) -> None:
        """Marks as in use now, so that ``gc`` leaves it for its grace period; ``FileNotFoundError`` if absent."""
        try:
            os.utime(path, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            refuse(error, "mark as used", path)

    def size(self, path: Path) -> int:
        """Bytes."""
        return os.stat(path, follow_symlinks=False).st_size

    def exists(self, path: Path) -> bool:
        """Whether the name is there."""
        return os.path.lexists(path)

    def source(self, path: Path) -> str | IO[bytes]:
        """What a Parquet reader opens: here the path itself, so that readers map only what they need."""
        return str(path)


def refuse(error: OSError, doing: str, path: Path) -> NoReturn:
    """The typed error of a change that the file system refused."""
    way_out = _WAY_OUT.get(error.errno or 0, "check the device and run again")
    reason = os.strerror(error.errno) if error.errno else str(error)
    raise StoreUnwritable(f"cannot {doing} {path}: {reason}; nothing was half-committed; {way_out}") from error


def _unreadable(error: OSError, path: Path) -> CorruptStore:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return CorruptStore(f"cannot read {path}: {reason}; check its permissions and the device, then `provender verify`")


def _sync(fd: int) -> None:
    if sys.platform == "darwin":  # fsync there only reaches the drive's cache
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def _rename_exclusive(source: bytes, target: bytes) -> int:
    """The errno, 0 for done. ``ENOSYS`` where the C library has no such call."""
    libc = ctypes.CDLL(None, use_errno=True)
    call: Any
    if sys.platform == "darwin":
        call, arguments = getattr(libc, "renamex_np", None), (source, target, ctypes.c_uint(4))
    else:
        at_cwd, no_replace = -100, ctypes.c_uint(1)
        call, arguments = getattr(libc, "renameat2", None), (at_cwd, source, at_cwd, target, no_replace)
    if call is None:
        return errno.ENOSYS
    return 0 if call(*arguments) == 0 else ctypes.get_errno()
