"""A text is embedded once: vectors by embedder and text in one SQLite file, which may be deleted at any time."""

import sqlite3
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.protocols import Embedder
from schemas.errors import StoreUnwritable
from schemas.identity import digest16
from storage.calls.cache import connect
from storage.calls.keys import identity_text

#: Texts embedded between two commits: what a crash can cost.
CHUNK = 2048
_LOOKUP = 500


class CachedEmbedder:
    """``Embedder`` over an engine: equal texts are embedded once, over all runs and processes that share the file.

    ``path`` is the file; the suffix ``.sqlite`` is added. Vectors are stored as the engine gave them (float32).
    """

    def __init__(self, engine: Embedder, path: str | Path) -> None:
        self.engine = engine
        self.path = Path(path).with_suffix(".sqlite")
        self._identity = identity_text(engine.identity()).encode()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = connect(self.path, synchronous="NORMAL")
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            raise StoreUnwritable(
                f"{self.path} cannot be used ({error}); it holds nothing but derived vectors, delete it or mend the folder"
            ) from error
        self._close = weakref.finalize(self, self._file.close)

    def identity(self) -> Mapping[str, Any]:
        """The engine's: a cache changes no vector."""
        return self.engine.identity()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32, shape (len(texts), dim)."""
        if not texts:
            return self.engine.embed([])
        keys = [digest16(self._identity + b"\x1f" + text.encode("utf-8", "surrogatepass")) for text in texts]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        order = list(dict.fromkeys(keys))
        place = {key: row for row, key in enumerate(order)}
        found = self._lookup(order)
        misses = [key for key in order if key not in found]
        for start in range(0, len(misses), CHUNK):
            part = misses[start : start + CHUNK]
            vectors = np.ascontiguousarray(self.engine.embed([texts[first[key]] for key in part]), dtype=np.float32)
            self._store(part, vectors)
            found.update(zip(part, vectors, strict=True))
        unique = np.stack([found[key] for key in order])
        return unique[[place[key] for key in keys]]

    def close(self) -> None:
        """Let go of the file; also happens when the embedder is garbage."""
        self._close()

    def _lookup(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(keys), _LOOKUP):
            part = keys[start : start + _LOOKUP]
            with self._lock:
                rows = self._file.execute(
                    f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(part))})", part
                ).fetchall()
            found.update((key, np.frombuffer(vector, dtype=np.float32)) for key, vector in rows)
        return found

    def _store(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        with self._lock:
            try:
                self._file.execute("BEGIN IMMEDIATE")
                self._file.executemany(
                    "INSERT OR IGNORE INTO vectors VALUES (?, ?)",
                    [(key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)],
                )
                self._file.execute("COMMIT")
            except sqlite3.Error as error:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise StoreUnwritable(
                    f"{self.path} cannot be written ({error}); free space and run again, or delete it"
                ) from error
