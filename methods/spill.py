"""Arrays that outgrow memory: above a bound they live in an unnamed temporary file, which vanishes with the process.

Where its folder has no room, `StoreUnwritable` says so.
"""

import ctypes
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import IO

import numpy as np

from schemas.errors import StoreUnwritable

#: Bytes that a method keeps in memory before it turns to a file.
IN_MEMORY = 512 << 20

_TAKEN = 1 << 14  # rows of a table copied at once


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
        self._pieces.append(np.ascontiguousarray(piece, dtype=self._dtype))
        if self._file is None and self._length * self._dtype.itemsize > self._limit:
            self._file = _file_of(self)
        if self._file is not None:
            with _room():
                for kept in self._pieces:
                    self._file.write(kept.data)
            self._pieces = []

    def whole(self) -> np.ndarray:
        """All elements, read-only where they are in a file; nothing may be appended afterwards."""
        if self._file is None:
            together = np.concatenate([np.empty(0, dtype=self._dtype), *self._pieces])
            self._pieces = [together]
            return together
        with _room():
            self._file.flush()  # the map outlives the file object
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=(self._length,))


class Columns:
    """``count`` columns of ``rows`` numbers each, written in slices of rows and read a column at a time."""

    def __init__(
        self, count: int, rows: int, in_memory: int | None = None, dtype: type[np.generic] = np.uint64
    ) -> None:
        self.count, self.rows, self._dtype = count, rows, np.dtype(dtype)
        self._file: IO[bytes] | None = None
        self._array = np.empty((0, 0), dtype=dtype)
        size = count * rows * self._dtype.itemsize
        if size > (IN_MEMORY if in_memory is None else in_memory):
            self._file = _file_of(self, size)
        else:
            self._array = np.empty((count, rows), dtype=dtype)

    def put(self, first_row: int, values: np.ndarray) -> None:
        """The rows from ``first_row`` on, shape (count, n)."""
        if self._file is None:
            self._array[:, first_row : first_row + values.shape[1]] = values
            return
        with _room():
            for column in range(self.count):
                self._file.seek((column * self.rows + first_row) * self._dtype.itemsize)
                self._file.write(np.ascontiguousarray(values[column], dtype=self._dtype).data)

    def column(self, number: int) -> np.ndarray:
        """One column, shape (rows,)."""
        if self._file is None:
            return self._array[number]
        size = self.rows * self._dtype.itemsize
        with _room():
            self._file.seek(number * size)
        return np.frombuffer(self._file.read(size), dtype=self._dtype)


class Table:
    """``rows`` rows of ``width`` float32 each, every one written once, wherever it belongs."""

    def __init__(self, rows: int, width: int, in_memory: int | None = None) -> None:
        self._shape = (rows, width)
        self._file: IO[bytes] | None = None
        self._array = np.empty((0, width), dtype=np.float32)
        if rows * width * 4 > (IN_MEMORY if in_memory is None else in_memory):
            self._file = _file_of(self, rows * width * 4)
        else:
            self._array = np.empty(self._shape, dtype=np.float32)

    def put(self, places: np.ndarray, values: np.ndarray) -> None:
        """Row i of ``values``, (n, width), becomes row ``places[i]`` of the table."""
        if self._file is None:
            self._array[places] = values
            return
        order = np.argsort(places, kind="stable")
        at, values = places[order], np.ascontiguousarray(values[order], dtype=np.float32)
        new = np.flatnonzero(np.diff(at, prepend=-2) != 1)
        with _room():
            for start, stop in zip(new.tolist(), np.append(new[1:], len(at)).tolist(), strict=False):
                self._file.seek(int(at[start]) * self._shape[1] * 4)
                self._file.write(values[start:stop].data)  # neighbours together

    def whole(self) -> np.ndarray:
        """All rows, (rows, width), read-only where they are in a file; nothing may be put afterwards."""
        if self._file is None:
            return self._array
        with _room():
            self._file.flush()  # the map outlives the file object
        return np.memmap(self._file, dtype=np.float32, mode="r", shape=self._shape)


def taken(rows: np.ndarray, which: np.ndarray, in_memory: int | None = None) -> np.ndarray:
    """``rows[which]`` of a table of float32, in a file where that outgrows memory."""
    found = Table(len(which), rows.shape[1], in_memory)
    for start in range(0, len(which), _TAKEN):
        part = which[start : start + _TAKEN]
        found.put(np.arange(start, start + len(part)), rows[part])
        let_go(rows)
    return found.whole()


def let_go(array: np.ndarray) -> None:
    """Let go of the memory that an array in a file takes (`Growing.whole`); it is read again where it is looked at.

    Nothing happens to an array in memory, or where the system has no such call.
    """
    pages = array.base if isinstance(array, np.memmap) else None
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def give_back() -> None:
    """Hand memory that was freed back to the system: glibc keeps what lies between pieces in use, a heap for each thread.

    For the end of a part of a method, which let go of much. Nothing happens where the C library has no such call.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _file_of(owner: object, size: int = 0) -> IO[bytes]:
    """A temporary file of so many bytes that is closed, and thereby gone, with its owner."""
    with _room():
        file = tempfile.TemporaryFile(prefix="provender-")  # noqa: SIM115
        weakref.finalize(owner, _closed, file)
        file.truncate(size)
    return file


def _closed(file: IO[bytes]) -> None:
    """Close it; what could not be written any more was reported where it was to be written."""
    with suppress(OSError):
        file.close()


@contextmanager
def _room() -> Generator[None]:
    """``StoreUnwritable`` where the disk refuses."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreUnwritable(
            f"no room for what a step keeps beside memory in {tempfile.gettempdir()}: {reason}; set TMPDIR to a larger disk"
        ) from error
