"""Durable puts and create-only names: the two moves every change of the store is made of.

``put``      bytes → tmp, fsync(file), rename to their digest, fsync(folder). Always, also when the name exists: its
             writer may have died between rename and fsync, and a name that was only trusted is lost with the power.
``publish``  bytes → tmp, fsync(file), link to a name nobody may replace, fsync(folder). Only then is it acknowledged.
"""

import hashlib
import os
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas.errors import CorruptStore, ProvenderError, StoreUnwritable
from schemas.lineage import Part
from storage.files.failpoints import reached
from storage.files.fs import FileSystem, LocalFileSystem, Remote, Sink, Unsupported

_DIGEST = re.compile(r"[0-9a-f]{64}")
_HOST = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:32]


class HashingSink:
    """A file-like object for Parquet writers: hashes and counts what passes, remembers the first failure."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.failure: BaseException | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Writes and hashes; a failure is kept because a Parquet writer wraps it in an error of its own."""
        chunk = bytes(data)
        try:
            self.sink.write(chunk)
        except BaseException as error:
            self.failure = error
            raise
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size_bytes

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def sha256(self) -> str:
        """Digest of everything written."""
        return self._hash.hexdigest()


@dataclass(frozen=True)
class Disk:
    """A store's folder on a file system, with the folders this process has already made durable."""

    fs: FileSystem
    root: Path
    durable: set[Path]
    create_only: str = "link"  # what `probe` found when the store was made; kept in FORMAT

    @property
    def place(self) -> str:
        """Where the record lies, for messages: a folder, or ``s3://…``."""
        return self.fs.address if isinstance(self.fs, Remote) else str(self.root)

    def shown(self, path: Path) -> str:
        """A name of the record for messages: where a person finds it."""
        if type(self.fs) is LocalFileSystem:  # a protocol is slow to look for, and a page asks a thousand times
            return str(path)
        if isinstance(self.fs, Remote) and self.fs.holds(path):
            return f"{self.fs.address}/{path.relative_to(self.root).as_posix()}"
        return str(path)

    def glance(self, *folders: str) -> "Disk":
        """The disk for a survey of some folders (none: all that can be collected): a remote one is listed once, now,
        instead of asked name by name.
        """
        if type(self.fs) is LocalFileSystem or not isinstance(self.fs, Remote):
            return self
        return replace(self, fs=self.fs.glance(folders) if folders else self.fs.glance())

    def recent(self) -> "Disk":
        """The disk for a reader that stays: names of a remote one as they were at most a moment ago."""
        if type(self.fs) is LocalFileSystem:  # a protocol is slow to look for
            return self
        return replace(self, fs=self.fs.recent()) if isinstance(self.fs, Remote) else self

    def local(self, sha256: str) -> Path:
        """A file on this machine with an object's bytes, for readers that are not ours."""
        path = self.object_path(sha256)
        return Path(str(self.fs.source(path))) if isinstance(self.fs, Remote) else path

    def object_path(self, sha256: str) -> Path:
        """Where the bytes with this digest lie; ``CorruptStore`` for what is no digest, so no name leads out."""
        if not is_digest(sha256):
            raise CorruptStore(
                f"{self.root}: a manifest names {sha256[:80]!a}, which is no digest; run `provender verify`"
            )
        return self.root / "objects" / sha256[:2] / sha256

    def folder(self, path: Path) -> None:
        """Makes a folder below the root whose name survives power loss, parents first.

        The parent is synced even if the folder is there: whoever made it may have died before doing so.
        """
        if path in self.durable or path == self.root:
            return
        self.folder(path.parent)
        try:
            self.fs.mkdir(path)
        except FileExistsError:
            pass
        except FileNotFoundError:
            raise _vanished(path) from None
        self.fs.sync_dir(path.parent)
        self.durable.add(path)

    def temporary(self, suffix: str) -> Path:
        """A name in ``tmp/`` that no other process picks."""
        self.folder(self.root / "tmp")
        return self.root / "tmp" / f"{_HOST}-{os.getpid()}-{secrets.token_hex(8)}{suffix}"

    def put(self, write: Callable[[Any], None], rows: int) -> Part:
        """One immutable object: ``write`` gets a file-like; what it wrote is durable under its digest on return."""
        path = self.temporary(".object")
        sink = HashingSink(self._create(path))
        try:
            try:
                reached("object-created")
                write(sink)
                reached("object-written")
                sink.sink.sync()
                reached("object-synced")
            finally:
                sink.sink.close()
            target = self.object_path(sink.sha256)
            self.folder(target.parent)
            self.fs.rename(path, target)
            reached("object-renamed")
            self.fs.sync_dir(target.parent)
            reached("object-durable")
        except Exception as error:
            self.discard(path)
            if isinstance(sink.failure, ProvenderError) and error is not sink.failure:
                raise sink.failure from error
            raise
        return Part(sha256=sink.sha256, rows=rows, size_bytes=sink.size_bytes)

    def publish(self, data: bytes, target: Path) -> bool:
        """Bytes under a name that is created once. False: the name was taken (by another's result, now durable too)."""
        self.folder(target.parent)
        path = self.temporary(".json")
        try:
            sink = self._create(path)
            try:
                sink.write(data)
                reached("manifest-written")
                sink.sync()
                reached("manifest-synced")
            finally:
                sink.close()
            mine = self._create_only(path, target)
            reached("manifest-linked" if mine else "rejoined")
            self.fs.sync_dir(target.parent)
            if mine:
                reached("manifest-durable")
        finally:
            self.discard(path)
        return mine

    def _create(self, path: Path) -> Sink:
        try:
            return self.fs.create(path)
        except FileNotFoundError:
            raise _vanished(path) from None

    def _create_only(self, path: Path, target: Path) -> bool:
        try:
            try:
                move = self.fs.rename_exclusive if self.create_only == "rename-exclusive" else self.fs.link
                move(path, target)
            except Unsupported:  # the store was copied to another file system since
                self.fs.rename_exclusive(path, target)
        except FileExistsError:
            return False
        except Unsupported as error:
            raise no_create_only(self.root) from error
        return True

    def restore(self, aside: Path, target: Path) -> None:
        """Gives a file its name back, unless a newer one has it by now."""
        self._create_only(aside, target)
        self.fs.sync_dir(target.parent)

    def rejoin(self, target: Path) -> None:
        """Makes a published name durable before anyone builds on it: its writer may have died before its fsync."""
        self.fs.sync_dir(target.parent)
        reached("rejoined")

    def discard(self, path: Path) -> None:
        """Removes a temporary file if it is there; what cannot be removed now, ``gc`` sweeps later."""
        try:
            self.fs.unlink(path)
        except (FileNotFoundError, StoreUnwritable):
            return


def probe(fs: FileSystem, folder: Path) -> str:
    """How this file system creates a name only once: ``link`` or ``rename-exclusive``.

    Object storage: ``put-if-absent``. Raises ``StoreUnwritable`` if it has none, or lets the second of two win.
    """
    if isinstance(fs, Remote):
        return fs.prove()
    for name, move in (("link", fs.link), ("rename-exclusive", fs.rename_exclusive)):
        one, two, target = (folder / f"probe-{secrets.token_hex(8)}" for _ in range(3))
        try:
            for path in (one, two):
                fs.create(path).close()
            move(one, target)
            try:
                move(two, target)
            except FileExistsError:
                return name
            break  # it says it did, and the first is lost: nothing this file system says about names can be trusted
        except Unsupported:
            continue
        finally:
            for path in (one, two, target):
                if fs.exists(path):
                    fs.unlink(path)
    raise no_create_only(folder)


def no_create_only(place: Path) -> StoreUnwritable:
    """A file system on which two writers could overwrite each other."""
    return StoreUnwritable(
        f"{place} lies on a file system with neither hard links nor exclusive rename, so two writers could overwrite "
        "each other; choose another store with --store"
    )


def is_digest(text: str) -> bool:
    """Whether the text is a SHA-256 in hex, as objects are named."""
    return bool(_DIGEST.fullmatch(text))


def gone(path: str, place: str) -> CorruptStore:
    """An object that a manifest or a draft names and the store no longer has."""
    return CorruptStore(f"{place}: the object {path} is gone; `provender verify` says what else is damaged")


def _vanished(path: Path) -> StoreUnwritable:
    return StoreUnwritable(f"cannot write {path}: its folder is gone; was the store moved or removed? run again")
