"""Reading many names of a bucket at a time: one listing instead of a question each, manifests read ahead and remembered.

A listing tells a name's length, age and entity tag. What was read before is what lies there now if the tag is the same,
so a reader that stays asks for three listings every two seconds and for nothing that it has already.
"""

import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from storage.files.bucket import Seen

if TYPE_CHECKING:
    from storage.files.object_store import ObjectStoreFileSystem

_AHEAD = 64
_AT_ONCE = 16
_MOST_KNOWN = 20_000
#: What readers that stay list: small, and all that a page begins with.
READ = ("steps", "tags", "reviews")
#: What a survey lists: everything that may be collected, with its marks of use.
SURVEYED = ("steps", "tags", "shards", "objects", "used")
RECENT_SECONDS = 2.0


class Known:
    """Small immutable files that were read: their bytes, by key, tag and time."""

    def __init__(self) -> None:
        self._bytes: dict[str, tuple[str, float, bytes]] = {}

    def put(self, key: str, tag: str, data: bytes) -> None:
        """Remembers what was read now."""
        if len(self._bytes) >= _MOST_KNOWN:
            self._bytes.clear()
        self._bytes[key] = (tag, time.monotonic(), data)

    def since(self, key: str, moment: float) -> bytes | None:
        """What was read at or after a moment of the monotonic clock."""
        found = self._bytes.get(key)
        return found[2] if found and found[1] >= moment else None

    def tagged(self, key: str, tag: str) -> bytes | None:
        """What was read under this entity tag."""
        found = self._bytes.get(key)
        return found[2] if found and tag and found[0] == tag else None

    def forget(self, key: str) -> None:
        """The next read asks the bucket."""
        self._bytes.pop(key, None)


class Glance:
    """What a listing of some folders said, and the files below them, read ahead."""

    def __init__(self, fs: "ObjectStoreFileSystem", folders: tuple[str, ...]) -> None:
        self.made = time.monotonic()
        self._fs = fs
        self._folders = frozenset(folders)
        with ThreadPoolExecutor(len(folders), thread_name_prefix="s3-list") as pool:
            self._all = {key: seen for found in pool.map(fs.bucket.everything, folders) for key, seen in found.items()}
        self._keys = sorted(self._all)
        self._files = [key for key in self._keys if key.endswith(".json")]

    def covers(self, key: str) -> bool:
        """Whether the key is one that was listed, if it was there."""
        return key.partition("/")[0] in self._folders

    def seen(self, key: str) -> Seen | None:
        """What the listing says of a key."""
        return self._all.get(key)

    def used(self, key: str) -> float:
        """When the key was last put or used, if both are listed."""
        return max(seen.modified for name in (key, f"used/{key}") if (seen := self._all.get(name)))

    def names(self, folder: str) -> list[str]:
        """Names directly in a folder, sorted."""
        below = f"{folder}/"
        keys = self._keys[bisect_left(self._keys, below) : bisect_left(self._keys, f"{folder}0")]  # "0" comes after "/"
        return sorted({key[len(below) :].partition("/")[0] for key in keys})

    def read(self, key: str) -> bytes | None:
        """The bytes under a listed key, read with its neighbours unless known; None if it is not listed."""
        if key not in self._all:
            return None
        data = self._remembered(key)
        if data is not None or not key.endswith(".json"):
            return data
        start = bisect_left(self._files, key)
        wanted = [name for name in self._files[start : start + _AHEAD] if self._remembered(name) is None]
        if wanted:  # empty where another thread learned it since
            with ThreadPoolExecutor(min(_AT_ONCE, len(wanted)), thread_name_prefix="s3-read") as pool:
                list(pool.map(self._learn, wanted))
        return self._remembered(key)

    def _remembered(self, key: str) -> bytes | None:
        return self._fs.known.tagged(key, self._all[key].tag)

    def _learn(self, key: str) -> None:
        try:
            self._fs.read_now(key)
        except FileNotFoundError:
            return  # it went since; whoever asks for it by name gets to know
