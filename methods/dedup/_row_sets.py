"""The shingle sets of a whole pool, spilled to a file where they are many, and which rows have equal ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.dedup._near_pairs import jaccard
from methods.keyed import mix64
from methods.parallel import in_order
from methods.spill import Growing, let_go
from methods.streamed import pieces_of
from methods.texts.shingles import Sets, Unit, shingles

_ROWS = 4096  # of a pool worked on at once


@dataclass(frozen=True)
class RowSets:
    """Set of row i: ``hashes[first[i]:first[i]+size[i]]``, ascending uint32; ``key`` is a 64-bit hash of the whole set."""

    hashes: np.ndarray
    first: np.ndarray
    size: np.ndarray
    key: np.ndarray

    @staticmethod
    def of(
        batches: Iterable[pl.DataFrame], rows: int, text: pl.Expr, n: int, unit: Unit, told: Callable[[int], None]
    ) -> "RowSets":
        """The sets of the texts of a pool of ``rows``; ``told`` hears how many rows are done."""
        hashes = Growing(np.uint32)
        size, key = np.zeros(rows, dtype=np.int32), np.zeros(rows, dtype=np.uint64)

        def made(piece: pl.DataFrame) -> tuple[Sets, np.ndarray]:
            found = shingles(piece.select(text.alias("text"))["text"], n, unit)
            return found, set_keys(found)

        start = 0
        for found, keys in in_order(made, pieces_of(batches, _ROWS)):
            hashes.append(found.hashes)
            stop = start + len(keys)
            size[start:stop], key[start:stop] = found.sizes, keys
            start = stop
            told(stop)
        ends = np.cumsum(size, dtype=np.int64)
        return RowSets(hashes.whole(), ends - size, size, key)

    def take(self, row: np.ndarray) -> Sets:
        """The sets of some rows, end to end."""
        many = self.size[row].astype(np.int64)
        first = np.concatenate(([0], np.cumsum(many)))
        return Sets(self.hashes[_places(self.first[row], many, first)], first)

    def similarity(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Jaccard similarity of pairs of rows, float64."""
        found = jaccard(self.hashes, self.first, self.size, one, other)
        let_go(self.hashes)
        return found

    def equal(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether the sets of pairs of rows are the same, element by element, bool."""
        same = self.size[one] == self.size[other]
        for start in range(0, len(one), _ROWS):
            pair = start + np.flatnonzero(same[start : start + _ROWS])
            a, b = self.take(one[pair]), self.take(other[pair])
            differs = np.concatenate(([0], np.cumsum(a.hashes != b.hashes)))
            same[pair] = differs[a.first[1:]] == differs[a.first[:-1]]
        return same


def set_keys(sets: Sets) -> np.ndarray:
    """A uint64 per set that equal sets share: the sum of their mixed elements, mixed again; 0 for the empty set."""
    keys = np.zeros(len(sets.first) - 1, dtype=np.uint64)
    filled = np.flatnonzero(sets.sizes)
    if len(filled):
        keys[filled] = mix64(np.add.reduceat(mix64(sets.hashes.astype(np.uint64)), sets.first[filled]))
    return keys


@dataclass(frozen=True)
class Distinct:
    """The rows whose sets are compared, best first; and for every row the number of its equal among them, -1 if none."""

    row: np.ndarray
    number: np.ndarray


def distinct_sets(sets: RowSets, best_first: np.ndarray, sources: np.ndarray | None) -> Distinct:
    """The best row of each set that is not empty (of each source, where ``sources`` is given).

    A row whose key is another's by chance (once in billions of pools) is compared with none.
    """
    filled = best_first[sets.size[best_first] > 0]
    key = sets.key[filled]
    if sources is not None:
        key = mix64(key ^ mix64(sources[filled].astype(np.uint64)))
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    distinct = filled[np.sort(first)]
    number = np.full(len(sets.size), -1)
    number[filled] = rank[group]
    copies = filled[distinct[number[filled]] != filled]
    number[copies[~sets.equal(copies, distinct[number[copies]])]] = -1
    return Distinct(distinct, number)


def _places(first: np.ndarray, many: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Positions of the elements of ranges that begin at ``first``; ``ends`` are the ranges' offsets in the result."""
    return np.repeat(first - ends[:-1], many) + np.arange(int(ends[-1]))
