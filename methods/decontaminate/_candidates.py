"""Which turns resemble which benchmark items: cosines in blocks, so that memory does not grow with the pool."""

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from methods.texts.ngrams import word_stream

_BLOCK = 1024  # turns whose cosines with all items are held at once: 80 MB for 20,000 items


def comparable(texts: pl.Series, min_words: int) -> np.ndarray:
    """Places of the texts with at least ``min_words`` words: a vector of less says little about what is asked."""
    return np.flatnonzero(word_stream(texts).lengths >= min_words)


def cosine_blocks(ours: np.ndarray, theirs: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, cosines of a block of our rows with all of theirs) for unit rows; float32, clipped to -1 … 1."""
    for begin in range(0, len(ours), _BLOCK):
        yield begin, np.clip(ours[begin : begin + _BLOCK] @ theirs.T, -1, 1)


#: Cosines of some consecutive texts with all items, and the first of those texts; float32, shape (texts, items).
Blocks = Iterable[tuple[int, np.ndarray]]


def closest_items(blocks: Blocks, texts: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Per text the ``count`` closest items: places and cosines, closest first, shape (texts, count).

    Ties go to the smaller place; fewer columns where there are fewer items.
    """
    places, values = list[np.ndarray](), list[np.ndarray]()
    for _, block in blocks:
        best = _top(block, min(count, block.shape[1]))
        places.append(best)
        values.append(np.take_along_axis(block, best, axis=1))
    if not places:
        return np.zeros((texts, 0), dtype=np.int64), np.zeros((texts, 0), dtype=np.float32)
    return np.concatenate(places), np.concatenate(values)


class ClosestTurns:
    """Per item the ``count`` closest turns of all batches seen so far, whatever their order."""

    def __init__(self, items: int, count: int) -> None:
        self.count = count
        self.value = np.full((items, count), -np.inf, dtype=np.float32)
        self.turn = np.full((items, count), -1, dtype=np.int64)

    def add(self, first: int, blocks: Blocks, key: np.ndarray) -> None:
        """Turns ``first …`` with these cosines; ``key`` (uint64 per turn) decides between equal ones."""
        for begin, block in blocks:
            better = np.flatnonzero(block.max(axis=0) >= self.value[:, -1])
            if not len(better):
                continue
            values = np.concatenate([self.value[better], block[:, better].T], axis=1)
            numbers = np.arange(first + begin, first + begin + len(block))
            turns = np.concatenate([self.turn[better], np.broadcast_to(numbers, (len(better), len(block)))], axis=1)
            keys = np.where(turns >= 0, key[np.maximum(turns, 0)], np.uint64(0))
            order = np.lexsort((keys, -values), axis=1)[:, : self.count]
            self.value[better] = np.take_along_axis(values, order, axis=1)
            self.turn[better] = np.take_along_axis(turns, order, axis=1)

    def pairs(self, at_least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(turn, item, cosine) of all that were kept and reach the cosine, items in order, closest first."""
        item, rank = np.nonzero((self.turn >= 0) & (self.value >= at_least))
        return self.turn[item, rank], item, self.value[item, rank]


def _top(block: np.ndarray, count: int) -> np.ndarray:
    """Columns of the largest values of each row, largest first, ties by column."""
    least = np.partition(block, -count, axis=1)[:, -count]
    taken = block >= least[:, None]
    for row in np.flatnonzero(taken.sum(axis=1) > count).tolist():  # several equal the last place: the first of them
        equal = np.flatnonzero(block[row] == least[row])
        taken[row, equal[count - int((block[row] > least[row]).sum()) :]] = False
    some = np.nonzero(taken)[1].reshape(len(block), count)
    order = np.argsort(-np.take_along_axis(block, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
