"""What pages work out from immutable versions, kept in memory between requests: at most so many bytes, oldest out first."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

#: Bytes of arrays one process keeps; at ten million rows a column of scores has 40 MB.
MOST_BYTES = 768 << 20


class Memory:
    """Values by key. Arrays count with their bytes, everything else with a small constant."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._values: OrderedDict[tuple[Any, ...], tuple[int, Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._working: dict[tuple[Any, ...], threading.Lock] = {}

    def of(self, key: tuple[Any, ...], work: Callable[[], T]) -> T:
        """The value worked out once: who asks while another thread works waits for its result.

        What works may ask for other keys, but no two kinds of values may need each other.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][1]
            turn = self._working.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if key in self._values:
                    return self._values[key][1]
            try:
                value = work()
                self.keep(key, value)
            finally:
                with self._lock:
                    self._working.pop(key, None)
        return value

    def keep(self, key: tuple[Any, ...], value: Any) -> None:
        """Puts a value in place of what was there; the oldest ones go if it is too much."""
        size = _size(value)
        with self._lock:
            if key in self._values:
                self._bytes -= self._values.pop(key)[0]
            self._values[key] = (size, value)
            self._bytes += size
            while self._bytes > self.most_bytes and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][0]

    def get(self, key: tuple[Any, ...]) -> Any:
        """What was kept, or None."""
        with self._lock:
            return self._values[key][1] if key in self._values else None

    def keys(self) -> list[tuple[Any, ...]]:
        """What is kept, oldest first."""
        with self._lock:
            return list(self._values)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self._bytes = 0


def _size(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return 200 + sum(_size(item) for item in value.values())
    if isinstance(value, tuple | list):
        return 200 + sum(_size(item) for item in value[:1000])
    return 200


#: The arrays of this process.
arrays = Memory()
