"""A store for readers that stay: manifests are parsed once and looked at again only when their file changed.

A page asks for hundreds of manifests, and they never change; a file that was damaged, restored or removed in the
meantime is noticed by its size and time. Nothing else of the store is remembered here.
"""

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import CorruptStore, MissingDataset, NewerStore
from schemas.lineage import DatasetRef, Manifest
from storage import manifests
from storage.files.fs import LocalFileSystem, Remote
from storage.files.objects import Disk
from storage.layout import manifest_path
from storage.store import Store

log = logging.getLogger("provender")

_Stamp = tuple[int | str, int]


class ReadingStore(Store):
    """``Store`` that remembers manifests. Its writing half works as ever."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.disk)
        self._known: dict[DatasetRef, tuple[_Stamp, Manifest]] = {}
        self._ordered: tuple[list[tuple[DatasetRef, _Stamp | None]], list[Manifest]] | None = None
        self._lock = threading.Lock()

    @classmethod
    def over(cls, root: str | Path) -> "ReadingStore":
        """The store in this folder, which must be there."""
        return cls(Store.open(root, create=False))

    @property
    def disk(self) -> Disk:
        """Where the store lies; names on object storage as they were at most two seconds ago."""
        return self._disk.recent()

    def describe(self, ref: DatasetRef) -> Manifest:
        """See ``Store.describe``."""
        stamp = _stamp(self.disk, manifest_path(self.root, ref))
        if stamp is not None:
            with self._lock:
                held = self._known.get(ref)
            if held is not None and held[0] == stamp:
                return held[1]
        manifest = super().describe(ref)
        if stamp is not None:
            with self._lock:
                self._known[ref] = (stamp, manifest)
        return manifest

    def versions(self) -> Iterator[Manifest]:
        """See ``Store.versions``; put in order once for the same files."""
        disk = self.disk
        files = [(ref, _stamp(disk, manifest_path(self.root, ref))) for ref in manifests.refs(disk)]
        with self._lock:
            held = self._ordered
        if held is not None and held[0] == files:
            yield from held[1]
            return
        found: list[Manifest] = []
        for ref, _ in files:
            try:
                found.append(self.describe(ref))
            except (CorruptStore, NewerStore, MissingDataset) as error:
                log.debug("skipped: %s", error)
        by_time = sorted(found, key=lambda manifest: (str(manifest.run.get("committed_at", "")), str(manifest.ref)))
        ordered = manifests.sources_first(by_time)
        with self._lock:
            self._ordered = (files, ordered)
        yield from ordered

    def downstream(self, ref: DatasetRef) -> list[Manifest]:
        """See ``Store.downstream``."""
        return manifests.downstream(self.describe(ref), list(self.versions()))


def _stamp(disk: Disk, path: Path) -> _Stamp | None:
    if not isinstance(disk.fs, LocalFileSystem) and isinstance(disk.fs, Remote):  # a protocol is slow to look for
        return disk.fs.stamp(path)
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size
