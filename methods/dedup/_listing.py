"""What dedup keeps of every row of a pool while it streams by: id, source, and how good it is. 28 bytes a row at most."""

import numpy as np
import polars as pl

from schemas.errors import InvariantViolation

_BYTES = 16  # of an id


class Listing:
    """Rows in the order in which they were added; ``sources`` are codes (int32), equal for equal sources."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.sources = np.zeros(rows, dtype=np.int32)
        self._ids = np.zeros((rows, _BYTES), dtype=np.uint8)
        self._good: np.ndarray | None = None
        self._codes: dict[str | None, int] = {}
        self._filled = 0

    def add(self, ids: pl.Series, sources: pl.Series, good: pl.Series | None = None) -> None:
        """The next rows; ``good`` is higher for those that stay, null for the last, absent where all are equal."""
        place = slice(self._filled, self._filled + len(ids))
        if place.stop > self.rows:
            raise InvariantViolation(f"a pool of {self.rows} examples gave {place.stop} or more; read it again")
        raw = b"".join(ids.to_list())
        if len(raw) != len(ids) * _BYTES:
            raise InvariantViolation(f"an id among rows {place.start} to {place.stop} is not of {_BYTES} bytes")
        self._ids[place] = np.frombuffer(raw, dtype=np.uint8).reshape(-1, _BYTES)
        names = sources.unique().to_list()
        codes = {name: self._codes.setdefault(name, len(self._codes)) for name in names}
        self.sources[place] = sources.replace_strict(codes, return_dtype=pl.Int32).to_numpy()
        if good is not None:
            if self._good is None:
                self._good = np.zeros(self.rows)
            self._good[place] = good.cast(pl.Float64).fill_null(-np.inf).to_numpy()
        self._filled = place.stop

    def whole(self) -> "Listing":
        """Itself, when every row is there; ``InvariantViolation`` otherwise."""
        if self._filled != self.rows:
            raise InvariantViolation(f"a pool of {self.rows} examples gave only {self._filled}; read it again")
        return self

    @property
    def names(self) -> set[str | None]:
        """The sources' names."""
        return set(self._codes)

    @property
    def any_good(self) -> bool:
        """Whether any row has a number to be good by."""
        return self._good is not None and bool(np.isfinite(self._good).any())

    def best_first(self) -> np.ndarray:
        """Row positions, best first, then by id, int64. A repeated member falls to its row."""
        words = self._ids.view(">u8").astype(np.uint64)
        keys = (words[:, 1], words[:, 0])
        return np.lexsort(keys if self._good is None else (*keys, -self._good)).astype(np.int64, copy=False)

    def ids(self, rows: np.ndarray | slice) -> pl.Series:
        """Ids of some rows, Binary."""
        raw = self._ids[rows].tobytes()
        return pl.Series("id", [raw[i : i + _BYTES] for i in range(0, len(raw), _BYTES)], dtype=pl.Binary)
