"""Objects of a remote store on this machine: whole, under their digests, verified when they come, bounded, expendable.

Parquet readers want files; objects never change, so one copy serves for good. A copy appears by rename after its bytes
were hashed and synced. The bound is kept whenever something is added: what was used longest ago goes first, nothing that
was used in the last quarter of an hour, for a reader may have been given its name. So many gigabytes used at once may lie
above the bound for a while.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from schemas.errors import CorruptStore, UsageError
from storage.files.fs import LocalFileSystem

log = logging.getLogger("provender")

IN_USE_SECONDS = 900.0


class ObjectCache:
    """``folder/objects/ab/<digest>``. Any number of processes may share it; it may be deleted while none runs."""

    def __init__(self, folder: Path, most_bytes: int | None = None) -> None:
        self.folder = folder
        self.most_bytes = bound_of_environment() if most_bytes is None else most_bytes
        self._local = LocalFileSystem()
        self._held: int | None = None
        self._lock = threading.Lock()

    def path(self, sha256: str) -> Path:
        """Where a copy lies or would lie."""
        return self.folder / "objects" / sha256[:2] / sha256

    def find(self, sha256: str) -> Path | None:
        """A copy that is here, in use from now on."""
        path = self.path(sha256)
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def adopt(self, file: Path, sha256: str) -> None:
        """Makes a synced file of this digest the copy; it is moved."""
        target = self.path(sha256)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(file)
        size = file.stat().st_size
        self._local.rename(file, target)
        self._added(size)

    def fetch(self, sha256: str, write: Callable[[IO[bytes]], str], place: str) -> Path:
        """A copy that ``write`` makes; it returns the digest of what it wrote. ``CorruptStore`` if that is another."""
        folder = self.folder / "tmp"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        half = folder / f"{sha256[:16]}-{os.getpid()}-{secrets.token_hex(8)}.fetched"
        try:
            with half.open("xb") as file:
                actual = write(file)
                file.flush()
                os.fsync(file.fileno())
            if actual != sha256:
                raise CorruptStore(
                    f"{place} has the digest {actual}, not that of its name; restore it from a copy or an older version "
                    "of the bucket's object, then `provender verify`"
                )
            self.adopt(half, sha256)
        finally:
            with suppress(FileNotFoundError):
                half.unlink()
        return self.path(sha256)

    def drop(self, sha256: str) -> None:
        """Forgets a copy."""
        with suppress(FileNotFoundError):
            self.path(sha256).unlink()

    def _added(self, size: int) -> None:
        with self._lock:
            self._held = size + (self._held if self._held is not None else self._measure())
            if self._held > self.most_bytes:
                self._shrink()

    def _measure(self) -> int:
        return sum(size for _, size, _ in self._copies())

    def _shrink(self) -> None:
        copies = sorted(self._copies())
        held = sum(size for _, size, _ in copies)
        recent = time.time() - IN_USE_SECONDS
        for used, size, path in copies:
            if held <= 0.9 * self.most_bytes or used > recent:
                break
            with suppress(FileNotFoundError):
                path.unlink()
                held -= size
        if held > self.most_bytes:
            log.debug("%s holds %d bytes, above its bound, all used within the last minutes", self.folder, held)
        self._held = held

    def _copies(self) -> list[tuple[float, int, Path]]:
        """When each was last used, its length, its path."""
        found: list[tuple[float, int, Path]] = []
        for path in (self.folder / "objects").glob("??/*"):
            with suppress(FileNotFoundError):
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
        return found


def bound_of_environment() -> int:
    """``PROVENDER_S3_CACHE_GIB`` in bytes; 20 GiB unless it is set."""
    text = os.environ.get("PROVENDER_S3_CACHE_GIB", "20")
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not 0 <= gib < 2**20:
        raise UsageError(f"PROVENDER_S3_CACHE_GIB is {text[:40]!a}; it must be a number of gibibytes, such as 20")
    return int(gib * 2**30)
