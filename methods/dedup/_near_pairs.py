"""Which sets meet in a band, and how alike two sets are: candidate pairs and their true Jaccard similarity."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from methods.parallel import in_order
from methods.texts.segments import counted, equal_neighbours, sorted_segments

_ELEMENTS = 1 << 20  # of sets compared at once


@dataclass(frozen=True)
class Meeting:
    """Groups of things that share a key: members ``at`` group by group, best first; ``place`` of each in its group.

    Each meets the best of its group and the ``reach`` after it: groups of at most ``reach + 1`` have all their pairs,
    larger ones do not cost their square.
    """

    at: np.ndarray
    place: np.ndarray
    reach: int

    def with_best(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs (better, worse) of the best of each group and every other member."""
        others = np.flatnonzero(self.place > 0)
        yield self.at[others - self.place[others]], self.at[others]

    def with_next(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The other pairs, those at distance one first."""
        for step in range(1, self.reach + 1):
            later = np.flatnonzero(self.place > step)
            if not len(later):
                return
            yield self.at[later - step], self.at[later]

    def crowded(self) -> np.ndarray:
        """Members of groups too large for all their pairs."""
        ends = np.flatnonzero(np.append(self.place[1:], 0) == 0)[: len(self.at)]
        size = self.place[ends] + 1
        return self.at[np.repeat(size > self.reach + 1, size)]


def meeting(keys: np.ndarray, among: np.ndarray | None, reach: int) -> Meeting:
    """Who shares a key, of things numbered best first; ``among`` restricts it to some of them (bool)."""
    number = np.arange(len(keys), dtype=np.uint64) if among is None else np.flatnonzero(among).astype(np.uint64)
    bits = np.uint64(max(1, len(keys).bit_length()))
    # One sort of key and number in one word. Keys that differ only in the low bits fall together and are told apart below.
    packed = ((keys if among is None else keys[among]) >> bits << bits) | number
    packed.sort()
    same = (packed[1:] >> bits) == (packed[:-1] >> bits)
    member = np.zeros(len(packed), dtype=bool)
    member[1:] |= same
    member[:-1] |= same
    at = (packed[member] & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    key = keys[at]
    order = np.lexsort((at, key))
    at, key = at[order], key[order]
    first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1]))[: len(at)])
    place = np.arange(len(at)) - np.repeat(first, np.diff(np.append(first, len(at))))
    return Meeting(at, place, reach)


def jaccard(hashes: np.ndarray, first: np.ndarray, size: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Jaccard similarity of pairs of sets (see `methods.texts.shingles.Sets`; ``first`` and ``size`` per set), float64."""
    shared = np.empty(len(one), dtype=np.int64)

    def count(part: slice) -> tuple[slice, np.ndarray]:
        return part, _shared(hashes, first, size, one[part], other[part])

    for part, found in in_order(count, _parts(size[one] + size[other])):
        shared[part] = found
    return shared / (size[one] + size[other] - shared)


def _shared(hashes: np.ndarray, first: np.ndarray, size: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Elements in common: both sets of a pair sorted as one, equal neighbours counted."""
    many = np.stack((size[one], size[other]), axis=1).reshape(-1)
    begins = np.concatenate(([0], np.cumsum(many)))
    start = np.stack((first[one], first[other]), axis=1).reshape(-1)
    place = np.repeat(start - begins[:-1], many) + np.arange(int(begins[-1]))
    together = begins[::2]  # both sets of a pair lie side by side
    return counted(equal_neighbours(sorted_segments(hashes[place], together), together), together)


def _parts(elements: np.ndarray) -> Iterator[slice]:
    """Consecutive slices of about ``_ELEMENTS`` in all (or of one)."""
    ends = np.cumsum(elements)
    start = 0
    while start < len(elements):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _ELEMENTS, side="right")))
        yield slice(start, stop)
        start = stop
