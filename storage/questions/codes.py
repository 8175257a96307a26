"""One number for each example of some homes, the same for the same id: sets of examples become flags over numbers.

Ids are long and come in no order; whether two versions share examples is asked of where those live instead. Where an id
lies in several homes (a source was read anew), all its places get the number of the first.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from schemas.lineage import DatasetRef
from storage.questions.dense import Array, Places, examples_of
from storage.questions.lasting import lasting
from storage.questions.remembered import arrays
from storage.seek import Reader


class Codes:
    """Numbers from 0 below ``size``; ``homes`` are versions with examples of their own, each once."""

    def __init__(self, reader: Reader, homes: Sequence[DatasetRef]) -> None:
        self.homes = tuple(homes)
        rows = [examples_of(reader.manifest(home)) for home in homes]
        self._starts = np.cumsum([0, *rows])
        self._start = dict(zip(homes, self._starts.tolist(), strict=False))
        self.size = int(self._starts[-1])
        self.same = _same(reader, homes)

    def places(self, where: Places) -> Array:
        """The number of each place, whatever its id."""
        start = np.array([self._start.get(home, 0) for home in where.homes], dtype=np.int64)
        return start[where.home] + where.row

    def of(self, where: Places) -> Array:
        """The number of the example at each place."""
        numbers = self.places(where)
        return numbers if self.same is None else self.same[numbers]

    def flags(self, where: Places) -> Array:
        """For each number whether its example is among these."""
        found = np.zeros(self.size, dtype=bool)
        found[self.of(where)] = True
        return found

    def held(self, homes: frozenset[DatasetRef]) -> Array:
        """For each number whether its example lies in one of these homes."""
        found = np.zeros(self.size, dtype=bool)
        for home, start, end in zip(self.homes, self._starts[:-1], self._starts[1:], strict=True):
            if home in homes:
                found[slice(start, end) if self.same is None else self.same[start:end]] = True
        return found

    def at(self, numbers: Array) -> Places:
        """Where the examples with these numbers live."""
        home = np.searchsorted(self._starts, numbers, side="right") - 1
        return Places(self.homes, home.astype(np.uint16), (numbers - self._starts[home]).astype(np.uint32))


def _same(reader: Reader, homes: Sequence[DatasetRef]) -> Array | None:
    """For each number the first one with its id; None where all ids differ. Within one home they do."""
    if len(homes) < 2:
        return None

    def work() -> Array | None:
        starts = np.cumsum([0, *(examples_of(reader.manifest(home)) for home in homes)])
        first = np.concatenate([_words(reader, home, 0) for home in homes])
        alike = _standing_twice(first)
        if not len(alike):
            return None
        rest = np.empty(len(alike), dtype=np.uint64)
        for home, start, end in zip(homes, starts[:-1], starts[1:], strict=True):
            mine = (alike >= start) & (alike < end)
            if mine.any():
                rest[mine] = _words(reader, home, 1)[alike[mine] - start]
        pairs = pl.DataFrame({"number": alike, "first": first[alike], "rest": rest})
        found = np.arange(len(first))
        found[alike] = pairs.select(pl.col("number").min().over("first", "rest"))["number"].to_numpy()
        return found

    manifests = [reader.manifest(home) for home in homes]
    key = (str(reader.store.root), "same", *(manifest.commit_id for manifest in manifests))
    return arrays.of(key, lambda: lasting(reader, manifests, key[1:], work))


def _standing_twice(words: Array) -> Array:
    """Positions of the words that stand more than once, in order."""
    ordered = np.sort(words)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return np.zeros(0, dtype=np.int64)
    kept_bits = max(16, len(twice).bit_length() + 4)
    shift = np.uint64(64 - kept_bits)
    flags = np.zeros(1 << kept_bits, dtype=bool)  # by the first bits: they sift nearly all others out without a search
    flags[twice >> shift] = True
    near = np.flatnonzero(flags[words >> shift])
    at = np.minimum(np.searchsorted(twice, words[near]), len(twice) - 1)
    return near[twice[at] == words[near]]


def _words(reader: Reader, home: DatasetRef, word: int) -> Array:
    """The first or the second eight bytes of each id of a home as a number."""

    def work() -> Array:
        part = pl.col("id").bin.slice(8 * word, 8).bin.reinterpret(dtype=pl.UInt64)
        return reader.scan(home, "examples").select(part).collect()["id"].to_numpy()

    return arrays.of((str(reader.store.root), reader.manifest(home).commit_id, "ids", str(word)), work)
