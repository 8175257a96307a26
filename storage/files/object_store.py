"""A store on S3-compatible object storage, behind the same verbs as a folder, so that the commit's code is the same.

The record (``REMOTE``) lies in the bucket, everything else in this machine's folder of the store (`storage/files/places.py`).
What the verbs become:

``rename`` of a local file to an object   PUT; durable when it is acknowledged; the file becomes the cached copy
``link`` of a local file to a name        PUT with ``If-None-Match: *``, read back whatever the answer (``Bucket.create``)
``sync_dir``, ``mkdir``                   nothing: there are no folders, and an acknowledged PUT is durable
``touch``, ``mtime``                      marks beside the name (`storage/files/marks.py`)
``source``                                a verified copy in the cache (`storage/files/cache.py`)

No step relies on a rename, a lock or an order of requests by others; a server that ignores ``If-None-Match`` is refused.
"""

import json
import logging
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from schemas.errors import CorruptStore, StoreUnwritable
from storage.files import marks
from storage.files.bucket import Bucket, Patience, Seen
from storage.files.cache import ObjectCache
from storage.files.fs import LocalFileSystem
from storage.files.glance import READ, RECENT_SECONDS, SURVEYED, Glance, Known
from storage.files.objects import Disk, gone, is_digest
from storage.files.places import S3Place, s3_place

log = logging.getLogger("provender")

#: The first names below the root that lie in the bucket.
REMOTE = frozenset(("FORMAT", "objects", "steps", "tags", "shards", "gc", "reviews", "measured"))
_COLLECTABLE = ("objects/", "steps/", "shards/")
_HELD_SECONDS = 60.0  # a use this recent needs no new mark: nothing younger than LEAST_AGE is ever collected
LEAST_AGE = 1800.0
_READ_SECONDS = 5.0
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
        self.known = Known()
        self._recent: Glance | None = None

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
        self.known.forget(key)

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
        """All bytes, from where they lie; a manifest may be one that this process read a moment ago.

        While a manifest is held it cannot be collected, and what was read since cannot have changed.
        """
        key = self._key(path)
        if key is None:
            return super().read(path)
        if not key.startswith("steps/"):
            return self.bucket.get(key)
        now = time.monotonic()
        held = self._held.get(key, float("-inf"))
        moment = held if now - held <= _HELD_SECONDS else now - _READ_SECONDS
        data = self.known.since(key, moment)
        return self.read_now(key) if data is None else data

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
        seen = self._seen(key)
        if seen is None:
            raise gone(f"{self.address}/{key}", self.address)
        place = f"{self.address}/{key}"
        try:
            return self.cache.fetch(path.name, lambda sink: self.bucket.get_into(key, sink, seen.size), place)
        except FileNotFoundError:
            raise gone(f"{self.address}/{key}", self.address) from None

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

    def glance(self, folders: tuple[str, ...] = SURVEYED) -> "ObjectStoreFileSystem":
        """The same, answering questions about names from one listing made now: for a survey, not for a decision."""
        return _Glanced(self, Glance(self, folders))

    def recent(self) -> "ObjectStoreFileSystem":
        """The same for a reader that stays: its listing is at most two seconds old."""
        glance = self._recent
        if glance is None or time.monotonic() - glance.made > RECENT_SECONDS:
            self._recent = glance = Glance(self, READ)
        return _Glanced(self, glance)

    def outdated(self) -> None:
        """Something was written: the next reader lists again."""
        self._recent = None

    def stamp(self, path: Path) -> tuple[str, int] | None:
        """What changes when the file does; None if it is not there."""
        key = self._key(path)
        seen = self.bucket.head(key) if key else None
        return (seen.tag, seen.size) if seen else None

    def read_now(self, key: str) -> bytes:
        """The bytes under a key, from the bucket; remembered with their tag."""
        data, tag = self.bucket.get_tagged(key)
        self.known.put(key, tag, data)
        return data

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
    """Names are answered from one listing, which may be a little old; what is read is true of it. Changes go through."""

    def __init__(self, over: ObjectStoreFileSystem, glance: Glance) -> None:
        self.__dict__.update(over.__dict__)
        self._over = over
        self._glance = glance

    def recent(self) -> ObjectStoreFileSystem:
        """See ``ObjectStoreFileSystem``."""
        return self._over.recent()

    def glance(self, folders: tuple[str, ...] = SURVEYED) -> ObjectStoreFileSystem:
        """A new listing."""
        return self._over.glance(folders)

    def link(self, source: Path, target: Path) -> None:
        """See ``FileSystem``; the next listing is a new one."""
        try:
            self._over.link(source, target)
        finally:
            self._over.outdated()

    def listdir(self, path: Path) -> list[str]:
        """See ``FileSystem``."""
        key = self._key(path)
        return super().listdir(path) if key is None or not self._glance.covers(key) else self._glance.names(key)

    def read(self, path: Path) -> bytes:
        """See ``FileSystem``."""
        key = self._key(path)
        data = self._glance.read(key) if key else None
        return super().read(path) if data is None else data

    def mtime(self, path: Path) -> float:
        """See ``FileSystem``."""
        key = self._key(path)
        if key is None or not self._glance.covers("used/") or self._glance.seen(key) is None:
            return super().mtime(path)
        return self._glance.used(key)

    def stamp(self, path: Path) -> tuple[str, int] | None:
        """See ``ObjectStoreFileSystem``."""
        key = self._key(path)
        seen = self._glance.seen(key) if key else None
        return (seen.tag, seen.size) if seen else None

    def _seen(self, key: str) -> Seen | None:
        return self._glance.seen(key) if self._glance.covers(key) else super()._seen(key)
