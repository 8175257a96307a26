"""TF-IDF of words: cosines of turns with all benchmark items, without a model, in blocks.

A text is the bag of its folded words (`methods.texts.ngrams`), each weighted by ``(1 + ln count) · (1 + ln((1 + N) / (1 + df)))``
with N items of which df hold the word, scaled to length 1. A word that no item holds counts for the length as the rarest of
all, so that a long turn about something else is far from everything. The weights depend on the items alone: a turn's
cosines are the same whatever stands beside it.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from methods.texts.ngrams import WordStream, word_stream, word_streams

_TURNS = 256  # whose cosines with all items are held at once: 20 MB for 20,000 items
_COMMON = 64  # words that most items share stand in a matrix, all others in lists of the items that hold them
_POSTINGS = 1 << 21  # gathered at once
DECIMALS = 6  # cosines are rounded, so that they do not depend on how the work was cut


class TfIdf:
    """Weighted words of some texts, to be compared with others."""

    def __init__(self, texts: pl.Series) -> None:
        self.count = len(texts)
        bag = _bag(word_stream(texts))
        self.words, place, df = np.unique(bag.word, return_inverse=True, return_counts=True)
        self._weight = 1 + np.log((1 + self.count) / (1 + df))
        self._unseen = 1 + np.log(1 + self.count)
        value = (1 + np.log(bag.count)) * self._weight[place]
        value /= _lengths(value, bag.text, self.count)[bag.text]
        common = np.sort(np.argsort(-df, kind="stable")[:_COMMON])
        self._column = np.full(len(self.words), -1)
        self._column[common] = np.arange(len(common))
        self._matrix = np.zeros((len(common), self.count), dtype=np.float32)
        dense = self._column[place] >= 0
        self._matrix[self._column[place[dense]], bag.text[dense]] = value[dense]
        order = np.argsort(place[~dense], kind="stable")
        self._item, self._value = bag.text[~dense][order], value[~dense][order]
        held = np.bincount(place[~dense], minlength=len(self.words))
        self._first = np.concatenate(([0], np.cumsum(held)))

    def blocks(self, texts: pl.Series) -> Iterator[tuple[int, np.ndarray]]:
        """(first text, cosines of some consecutive texts with all indexed ones), float32, 0 to 1, rounded."""
        for begin, stream in word_streams(texts):
            bag = _bag(stream)
            place, known = self._places(bag.word)
            value = (1 + np.log(bag.count)) * np.where(known, self._weight[place], self._unseen)
            value /= _lengths(value, bag.text, len(stream.lengths))[bag.text]
            text, place, value = bag.text[known], place[known], value[known]
            for first in range(0, len(stream.lengths), _TURNS):
                rows = min(_TURNS, len(stream.lengths) - first)
                here = slice(*np.searchsorted(text, [first, first + rows]))
                block = self._cosines(text[here] - first, place[here], value[here], rows)
                yield begin + first, np.clip(np.round(block, DECIMALS), 0, 1)

    def _places(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place of each word in ``words``, and whether it stands there at all."""
        if not len(self.words):
            return np.zeros(len(words), dtype=np.int64), np.zeros(len(words), dtype=bool)
        place = np.minimum(np.searchsorted(self.words, words), len(self.words) - 1)
        return place, self.words[place] == words

    def _cosines(self, text: np.ndarray, place: np.ndarray, value: np.ndarray, rows: int) -> np.ndarray:
        common = self._column[place] >= 0
        ours = np.zeros((rows, len(self._matrix)), dtype=np.float32)
        ours[text[common], self._column[place[common]]] = value[common]
        block = ours @ self._matrix
        text, place, value = text[~common], place[~common], value[~common]
        many = self._first[place + 1] - self._first[place]
        ends = np.cumsum(many)
        start = 0
        while start < len(text):
            done = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _POSTINGS, side="right")))
            size = many[start:stop]
            at = np.repeat(self._first[place[start:stop]] - (ends[start:stop] - size - done), size)
            at += np.arange(int(size.sum()))
            cell = np.repeat(text[start:stop] * self.count, size) + self._item[at]
            parts = np.bincount(cell, np.repeat(value[start:stop], size) * self._value[at], minlength=block.size)
            block += parts.reshape(block.shape)
            start = stop
        return block


class _Bag:
    """Parallel arrays sorted by text and word: ``text``, ``word`` (hash) and ``count`` of it there."""

    def __init__(self, text: np.ndarray, word: np.ndarray, count: np.ndarray) -> None:
        self.text, self.word, self.count = text, word, count


def _bag(stream: WordStream) -> _Bag:
    owner = stream.owner
    order = np.lexsort((stream.hashes, owner))
    text, word = owner[order], stream.hashes[order]
    new = np.ones(len(word), dtype=bool)
    new[1:] = (text[1:] != text[:-1]) | (word[1:] != word[:-1])
    begins = np.flatnonzero(new)
    return _Bag(text[begins], word[begins], np.diff(np.append(begins, len(word))))


def _lengths(value: np.ndarray, text: np.ndarray, texts: int) -> np.ndarray:
    """Euclidean length per text; 1 where there is no word."""
    length = np.sqrt(np.bincount(text, value**2, minlength=texts))
    return np.where(length > 0, length, 1.0)
