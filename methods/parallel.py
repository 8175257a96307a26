"""Work on several cores within one method: threads, results in order, never more in flight than a few per thread."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

#: More threads gain little (Python's lock) and cost memory, a piece of work each.
MOST_THREADS = 8

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers() -> int:
    """Threads that `in_order` works with unless told: one a core, `MOST_THREADS` at most."""
    return min(MOST_THREADS, cores())


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """``work(item)`` for each item, in the order of the items; for numpy and polars, which let other threads run.

    Items are taken, and results kept, for two items a thread at most, so that a long input needs no more memory.
    By default a thread a core, eight at most.
    """
    threads = threads or workers()
    if threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="method") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
