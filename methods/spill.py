"""Arrays that outgrow memory: above a bound they live in an unnamed temporary file, which vanishes with the process."""

import mmap
import tempfile
import weakref
from typing import IO

import numpy as np

#: Bytes that a method keeps in memory before it turns to a file.
IN_MEMORY = 512 << 20


class Growing:
    """A one-dimensional array that grows at its end."""

    def __init__(self, dtype: type[np.generic], in_memory: int | None = None) -> None:
        self._dtype, self._limit = np.dtype(dtype), IN_MEMORY if in_memory is None else in_memory
        self._pieces: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, piece: np.ndarray) -> None:
        """Put these elements at the end."""
        self._length += len(piece)
        if self._file is not None:
            self._file.write(np.ascontiguousarray(piece, dtype=self._dtype).data)
            return
        self._pieces.append(np.ascontiguousarray(piece, dtype=self._dtype))
        if self._length * self._dtype.itemsize > self._limit:
            self._file = _file_of(self)
            for kept in self._pieces:
                self._file.write(kept.data)
            self._pieces = []

    def whole(self) -> np.ndarray:
        """All elements, read-only where they are in a file; nothing may be appended afterwards."""
        if self._file is None:
            together = np.concatenate([np.empty(0, dtype=self._dtype), *self._pieces])
            self._pieces = [together]
            return together
        self._file.flush()  # the map outlives the file object
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=(self._length,))


class Columns:
    """``count`` columns of ``rows`` uint64 each, written in slices of rows and read a column at a time."""

    def __init__(self, count: int, rows: int, in_memory: int | None = None) -> None:
        self.count, self.rows = count, rows
        self._file: IO[bytes] | None = None
        self._array = np.empty((0, 0), dtype=np.uint64)
        if count * rows * 8 > (IN_MEMORY if in_memory is None else in_memory):
            self._file = _file_of(self)
            self._file.truncate(count * rows * 8)
        else:
            self._array = np.empty((count, rows), dtype=np.uint64)

    def put(self, first_row: int, values: np.ndarray) -> None:
        """The rows from ``first_row`` on, shape (count, n)."""
        if self._file is None:
            self._array[:, first_row : first_row + values.shape[1]] = values
            return
        for column in range(self.count):
            self._file.seek((column * self.rows + first_row) * 8)
            self._file.write(np.ascontiguousarray(values[column], dtype=np.uint64).data)

    def column(self, number: int) -> np.ndarray:
        """One column, shape (rows,)."""
        if self._file is None:
            return self._array[number]
        self._file.seek(number * self.rows * 8)
        return np.frombuffer(self._file.read(self.rows * 8), dtype=np.uint64)


def let_go(array: np.ndarray) -> None:
    """Let go of the memory that an array in a file takes (`Growing.whole`); it is read again where it is looked at.

    Nothing happens to an array in memory, or where the system has no such call.
    """
    pages = array.base if isinstance(array, np.memmap) else None
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _file_of(owner: object) -> IO[bytes]:
    """A temporary file that is closed, and thereby gone, with its owner."""
    file = tempfile.TemporaryFile(prefix="provender-")  # noqa: SIM115
    weakref.finalize(owner, file.close)
    return file
