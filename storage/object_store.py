"""A store on S3-compatible object storage, behind the same verbs as a folder, so that the commit's code is the same.

The record (``REMOTE``) lies in the bucket, everything else in this machine's folder of the store (`storage/places.py`).
What the verbs become:

``rename`` of a local file to an object   PUT; durable when it is acknowledged; the file becomes the cached copy
``link`` of a local file to a name        PUT with ``If-None-Match: *``, read back whatever the answer (``Bucket.create``)
``sync_dir``, ``mkdir``                   nothing: there are no folders, and an acknowledged PUT is durable
``touch``, ``mtime``                      marks beside the name (`storage/object_store_marks.py`)
``source``                                a verified copy in the cache (`storage/object_store_cache.py`)

No step relies on a rename, a lock or an order of requests by others; a server that ignores ``If-None-Match`` is refused.
"""

import json
import logging
import os
import secrets
import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from schemas.errors import CorruptStore, StoreUnwritable
from storage import object_store_marks as marks
from storage.fs import LocalFileSystem
from storage.object_store_bucket import Bucket, Patience, Seen
from storage.object_store_cache import ObjectCache
from storage.objects import Disk, gone, is_digest
from storage.places import S3Place, s3_place

log = logging.getLogger("provender")

#: The first names below the root that lie in the bucket.
REMOTE = frozenset(("FORMAT", "objects", "steps", "tags", "shards", "gc", "reviews", "measured"))
_COLLECTABLE = ("objects/", "steps/", "shards/")
_HELD_SECONDS = 60.0  # a use this recent needs no new mark: nothing younger than LEAST_AGE is ever collected
LEAST_AGE = 1800.0
_PROVED_FOR = 24 * 3600.0
_RACERS = 8


def disk_at(store: str | Path) -> Disk:
    """The disk behind a store's address: a folder, or a bucket with this machine's folder beside it."""
    place = s3_place(store)
    if place is None:
        return Disk(LocalFileSystem(), Path(store).absolute(), set())
    return remote_disk(place)


def remote_disk(place: S3Place, patience: Patience | None = None, folder: Path | None = None) -> Disk:
    """The disk of a place on object storage; nothing is asked of the server yet."""
    root = folder or place.folder()
    fs = ObjectStoreFileSystem(Bucket(place, patience), root)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnwritable(
            f"{root}, where this machine keeps what belongs to {place}, cannot be made: {error.strerror}; "
            "set PROVENDER_HOME to a folder that can be written"
        ) from error
    return Disk(fs, root, set())


class ObjectStoreFileSystem(LocalFileSystem):
    """The bucket for what is in ``REMOTE``, the local file system for everything else below ``root``."""

    def __init__(
        self, bucket: Bucket, root: Path, *, cache_bytes: int | None = None, least_age: float = LEAST_AGE
    ) -> None:
        self.bucket = bucket
        self.root = root
        self.cache = ObjectCache(root, cache_bytes)
        self.least_age = least_age
        self._held: dict[str, float] = {}
        self._proved = False

    @property
    def address(self) -> str:
        """``s3://bucket/prefix``."""
        return str(self.bucket.place)

    def holds(self, path: Path) -> bool:
        """Whether the bucket, not this machine, is where the name lies."""
        return self._key(path) is not None

    def rename(self, source: Path, target: Path) -> None:
        """See ``FileSystem``; a local file becomes an object of the bucket and a copy in the cache."""
        key = self._key(target)
        if key is None:
            super().rename(source, target)
            return
        if not key.startswith("objects/") or not is_digest(target.name):
            raise CorruptStore(f"{self.address}/{key} is no object; only objects are ever replaced")

        def put() -> bool:
            self.bucket.put_file(key, source, target.name)
            return True

        marks.kept(self.bucket, key, put)
        self._hold(key)
        self.cache.adopt(source, target.name)

    def link(self, source: Path, target: Path) -> None:
        """See ``FileSystem``: created once, or ``FileExistsError``."""
        key = self._key(target)
        if key is None:
            super().link(source, target)
            return
        if key != "FORMAT":
            self.check(must=True)
        data = source.read_bytes()
        if key.startswith(_COLLECTABLE):
            mine = marks.kept(self.bucket, key, lambda: self.bucket.create(key, data))
        else:
            mine = self.bucket.create(key, data)
        if not mine:
            raise FileExistsError(f"{self.address}/{key} is taken")
        self._hold(key)

    def rename_exclusive(self, source: Path, target: Path) -> None:
        """See ``FileSystem``."""
        if self._key(target) is None:
            super().rename_exclusive(source, target)
            return
        self.link(source, target)
        super().unlink(source)

    def sync_dir(self, path: Path) -> None:
        """An acknowledged request is durable."""
        if self._key(path) is None and path != self.root:
            super().sync_dir(path)

    def unlink(self, path: Path) -> None:
        """See ``FileSystem``; a record is removed by ``remove_unused`` alone."""
        if self._key(path) is not None:
            raise StoreUnwritable(
                f"{path} is part of the record of {self.address}; `provender gc` removes what is unused"
            )
        super().unlink(path)

    def listdir(self, path: Path) -> list[str]:
        """Names in a folder, sorted; at the root those of the bucket."""
        key = "" if path == self.root else self._key(path)
        return super().listdir(path) if key is None else self.bucket.names(key)

    def mkdir(self, path: Path) -> None:
        """See ``FileSystem``; a bucket has no folders."""
        if self._key(path) is None:
            super().mkdir(path)

    def read(self, path: Path) -> bytes:
        """All bytes, from where they lie."""
        key = self._key(path)
        return super().read(path) if key is None else self.bucket.get(key)

    def mtime(self, path: Path) -> float:
        """When it was last put or used, by the server's clock."""
        key = self._key(path)
        return super().mtime(path) if key is None else marks.age_mark(self.bucket, key)

    def touch(self, path: Path) -> None:
        """Marks as in use now; ``FileNotFoundError`` if it is not there, or is just being collected."""
        key = self._key(path)
        if key is None:
            super().touch(path)
        elif time.monotonic() - self._held.get(key, float("-inf")) > _HELD_SECONDS:
            marks.mark_used(self.bucket, key)
            self._hold(key)

    def size(self, path: Path) -> int:
        """Bytes."""
        key = self._key(path)
        if key is None:
            return super().size(path)
        seen = self._seen(key)
        if seen is None:
            raise FileNotFoundError(f"{self.address}/{key} is not there")
        return seen.size

    def exists(self, path: Path) -> bool:
        """Whether the name is there; a copy of an object in the cache answers for it."""
        key = self._key(path)
        if key is None:
            return super().exists(path)
        if key.startswith("objects/") and is_digest(path.name) and self.cache.find(path.name):
            return True
        return self._seen(key) is not None

    def source(self, path: Path) -> str | IO[bytes]:
        """A verified copy of an object on this machine; ``CorruptStore`` if it is gone or its bytes are others."""
        key = self._key(path)
        if key is None:
            return super().source(path)
        held = self.cache.find(path.name)
        return str(held or self.fetch(path))

    def fetch(self, path: Path) -> Path:
        """A fresh copy of an object from the bucket, verified by its name; ``CorruptStore`` as ``source``."""
        key = self._key(path)
        if key is None or not is_digest(path.name):
            raise CorruptStore(f"{path} is no object; run `provender verify`")
        seen = self.bucket.head(key)
        if seen is None:
            raise gone(Path(key), self.address)
        place = f"{self.address}/{key}"
        return self.cache.fetch(path.name, lambda sink: self.bucket.get_into(key, sink, seen.size), place)

    def prove(self) -> str:
        """That two writers cannot both win, tried now: one after the other, and eight at once.

        Raises ``StoreUnwritable`` for a server that lets the second win, or refuses the credentials.
        """
        key = f"probe/{secrets.token_hex(12)}"
        try:
            one_by_one = [self.bucket.create(key, word) for word in (b"first", b"second")]
            with ThreadPoolExecutor(_RACERS) as pool:
                words = [f"racer {number}".encode() for number in range(_RACERS)]
                won = list(pool.map(lambda word: self.bucket.create(f"{key}-race", word), words))
            there = self.bucket.get(f"{key}-race")
        finally:
            for name in (key, f"{key}-race"):
                self.bucket.delete(name)
        if one_by_one != [True, False] or won.count(True) != 1 or words[won.index(True)] != there:
            raise _Unconditional(
                f"{self.bucket.place.endpoint or 'AWS'} lets the second of two writers replace what the first created "
                f"(it ignores If-None-Match), so versions could be lost; {self.address} is not opened; use object "
                "storage with conditional writes, or a folder"
            )
        self._proved = True
        self._remember()
        return "put-if-absent"

    def check(self, *, must: bool = False) -> None:
        """``prove`` unless this machine did in the last day. Without permission to write only ``must`` is refused."""
        if self._proved or self._remembered():
            self._proved = True
            return
        try:
            self.prove()
        except _Unconditional:
            raise
        except StoreUnwritable as error:
            if must:
                raise
            log.debug("%s is open for reading only: %s", self.address, error)

    def remove_unused(self, path: Path, newest: float) -> bool:
        """Removes a record unless it was put or used after ``newest``, or within the last half hour."""
        key = self._key(path)
        if key is None or not key.startswith(_COLLECTABLE):
            raise StoreUnwritable(f"{path} is nothing that is ever collected from {self.address}")
        removed = marks.remove_unused(self.bucket, key, min(newest, time.time() - self.least_age))
        if removed:
            self._held.pop(key, None)
            if key.startswith("objects/"):
                self.cache.drop(path.name)
        return removed

    def glance(self) -> "ObjectStoreFileSystem":
        """The same, answering questions about names from one listing made now: for a survey, not for a decision."""
        return _Glanced(self)

    def _seen(self, key: str) -> Seen | None:
        return self.bucket.head(key)

    def _key(self, path: Path) -> str | None:
        try:
            parts = path.relative_to(self.root).parts
        except ValueError:
            return None
        return "/".join(parts) if parts and parts[0] in REMOTE else None

    def _hold(self, key: str) -> None:
        now = time.monotonic()
        if len(self._held) > 10_000:
            self._held = {name: at for name, at in self._held.items() if now - at <= _HELD_SECONDS}
        self._held[key] = now

    def _remembered(self) -> bool:
        try:
            noted = json.loads((self.root / "probe.json").read_text("utf-8"))
            return noted["address"] == self._noted() and 0 <= time.time() - float(noted["at"]) < _PROVED_FOR
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _remember(self) -> None:
        half = self.root / f"probe.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        half.write_text(json.dumps({"address": self._noted(), "at": time.time()}), "utf-8")
        half.replace(self.root / "probe.json")

    def _noted(self) -> str:
        return f"{self.address} at {self.bucket.place.endpoint}"


class _Unconditional(StoreUnwritable):
    """The storage lets two writers win."""


class _Glanced(ObjectStoreFileSystem):
    """One listing of everything; manifests are read ahead, many at once. Changes go to the bucket as ever."""

    def __init__(self, over: ObjectStoreFileSystem) -> None:
        self.__dict__.update(over.__dict__)
        self._all = self.bucket.everything("")
        self._ahead: dict[str, bytes] = {}
        self._manifests = sorted(key for key in self._all if key.startswith("steps/"))

    def glance(self) -> ObjectStoreFileSystem:
        """A new listing."""
        return _Glanced(self)

    def listdir(self, path: Path) -> list[str]:
        """See ``FileSystem``."""
        key = self._key(path)
        if key is None:
            return super().listdir(path)
        return sorted({rest.partition("/")[0] for name in self._all if (rest := name.removeprefix(f"{key}/")) != name})

    def read(self, path: Path) -> bytes:
        """See ``FileSystem``."""
        key = self._key(path)
        if key is None or key not in self._all or not key.startswith("steps/"):
            return super().read(path)
        if key not in self._ahead:
            start = bisect_left(self._manifests, key)
            wanted = self._manifests[start : start + 64]
            with ThreadPoolExecutor(16, thread_name_prefix="s3-manifests") as pool:
                self._ahead.update(zip(wanted, pool.map(self._get, wanted), strict=True))
        data = self._ahead.pop(key)
        return data or super().read(path)  # empty: it vanished since, or is empty; ask again

    def mtime(self, path: Path) -> float:
        """See ``FileSystem``."""
        key = self._key(path)
        if key is None or key not in self._all:
            return super().mtime(path)
        used = self._all.get(f"used/{key}")
        return max(self._all[key].modified, used.modified if used else 0.0)

    def _seen(self, key: str) -> Seen | None:
        return self._all.get(key)

    def _get(self, key: str) -> bytes:
        try:
            return self.bucket.get(key)
        except FileNotFoundError:
            return b""
