"""Which sets meet in a band, and how alike two sets are: candidate pairs and their true Jaccard similarity."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from methods.parallel import in_order
from methods.segments import counted, equal_neighbours, sorted_segments

_ELEMENTS = 1 << 20  # of sets compared at once


@dataclass(frozen=True)
class Meeting:
    """Pairs with ``better < worse`` that share a key; ``crowded`` are members of groups too large for all their pairs."""

    better: np.ndarray
    worse: np.ndarray
    crowded: np.ndarray


def meeting(keys: np.ndarray, among: np.ndarray | None, reach: int) -> Meeting:
    """Who shares a key, of things numbered best first.

    In a group, each meets the ``reach`` members after it, and all meet the best: groups of at most ``reach + 1`` have all
    their pairs, larger ones do not cost their square. ``among`` restricts it to some things (bool).
    """
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
    begins = np.concatenate(([True], key[1:] != key[:-1]))[: len(at)]
    group = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    better, worse = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for step in range(1, reach + 1):
        near = np.flatnonzero(group[step:] == group[:-step])
        if not len(near):
            break
        better.append(at[near])
        worse.append(at[near + step])
    place = np.arange(len(at)) - first[group]
    far = np.flatnonzero(place > reach)
    better.append(at[first[group[far]]])
    worse.append(at[far])
    crowds = np.zeros(len(first), dtype=bool)
    crowds[group[far]] = True
    return Meeting(np.concatenate(better), np.concatenate(worse), at[crowds[group]])


def jaccard(hashes: np.ndarray, first: np.ndarray, size: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Jaccard similarity of pairs of sets (see `methods.shingles.Sets`; ``first`` and ``size`` per set), float64."""
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
