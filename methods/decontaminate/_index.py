"""N-grams of benchmark items, and how much of which item a text holds: hashes, sorted keys, one probe per word."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.texts.ngrams import WordStream, ngrams, window_hashes, window_starts, word_stream

_MOST_BITS = 24  # of the table: 16 MB


@dataclass(frozen=True)
class Pairs:
    """Candidate pairs of a text and an item that share an n-gram, as parallel arrays.

    ``coverage`` is the share of the item's words inside shared n-grams; ``distinctive`` the same among the words that
    stand in an n-gram of few items, inside shared n-grams of few items (nan where the item has no such word);
    ``words`` how many words of the item are covered.
    """

    text: np.ndarray
    item: np.ndarray
    coverage: np.ndarray
    distinctive: np.ndarray
    words: np.ndarray


@dataclass(frozen=True)
class Overlaps:
    """Pairs as in `Pairs`, with ``overlap``: the item's distinct n-grams in the text, by IDF weight, 0 to 1."""

    text: np.ndarray
    item: np.ndarray
    overlap: np.ndarray


@dataclass(frozen=True)
class Meetings:
    """Pairs ``text[i], item[i]``; ``owner`` (a pair), ``gram`` and ``shared`` run over all n-grams of all its items."""

    text: np.ndarray
    item: np.ndarray
    owner: np.ndarray
    gram: np.ndarray
    shared: np.ndarray


class ItemIndex:
    """N-grams of items, frequent ones told apart.

    An n-gram that stands in more than ``max_df`` items of different text is boilerplate ("which of the following is
    true"): it counts for coverage, but brings up no candidate, unless an item has no other n-gram.
    """

    def __init__(self, texts: pl.Series, n: int, max_df: int) -> None:
        self.n = n
        self.stream = word_stream(texts)
        self.length = self.stream.lengths
        grams = ngrams(self.stream, n)
        self.gram_item = self.stream.owner[grams.word]
        self.gram_at = grams.word - self.stream.first[:-1][self.gram_item]  # word of the item the n-gram begins with
        self.gram_first = np.searchsorted(self.gram_item, np.arange(len(texts) + 1))
        self.keys, self.gram_key = _numbered(grams.hashes)
        df = self._document_frequency(texts)
        self.rare = df <= max_df
        self.idf = np.log1p(len(texts) / np.maximum(df, 1))
        self.first_use = _first_use(self.gram_item, self.gram_key)
        self.weight = np.bincount(self.gram_item, self.idf[self.gram_key] * self.first_use, minlength=len(texts))
        self.distinct = np.bincount(self.gram_item, self.first_use, minlength=len(texts)).astype(np.int64)
        self.distinctive = self._distinctive_words()
        self._anchor()
        self._known = _Known(self.keys)

    def candidates(self, stream: WordStream) -> Pairs:
        """Pairs of a text of the stream and an item that share an n-gram."""
        met = self.meetings(stream)
        words = self.length[met.item]
        base = np.concatenate(([0], np.cumsum(words)))
        at = base[met.owner] + self.gram_at[met.gram]
        covered = _union(at[met.shared], self.n, int(base[-1]))
        rare = met.shared & self.rare[self.gram_key[met.gram]]
        covered_rarely = _union(at[rare], self.n, int(base[-1]))
        _, word = _ranges(self.stream.first[met.item], words)
        distinctive = self.distinctive[word]
        with np.errstate(invalid="ignore"):
            share = _sums(covered_rarely & distinctive, base) / _sums(distinctive, base)
        covered_words = _sums(covered, base)
        return Pairs(met.text, met.item, covered_words / words, share, covered_words)

    def overlaps(self, stream: WordStream) -> Overlaps:
        """The same pairs, with the share of the item's distinct n-grams, weighted by rarity, that the text holds."""
        met = self.meetings(stream)
        weight = np.where(self.first_use, self.idf[self.gram_key], 0.0)[met.gram]
        shared = np.bincount(met.owner, weight * met.shared, minlength=len(met.item))
        return Overlaps(met.text, met.item, shared / self.weight[met.item])

    def meetings(self, stream: WordStream) -> Meetings:
        """Pairs of a text of the stream and an item that share an n-gram, and which of the item's n-grams they share."""
        grams = ngrams(stream, self.n)
        hit, key = self._known.find(grams.hashes)
        text = stream.owner[grams.word[hit]]
        span = np.int64(max(1, len(self.keys)))
        present = _distinct(text * span + key)
        text, key = present // span, present % span
        count = self.anchor_first[key + 1] - self.anchor_first[key]
        owner, place = _ranges(self.anchor_first[key], count)
        pair = _distinct(text[owner] * np.int64(len(self.length)) + self.anchor_item[place])
        text, item = pair // len(self.length), pair % len(self.length)
        # All n-grams of each candidate item, and whether the text holds them.
        owner, gram = _ranges(self.gram_first[item], self.gram_first[item + 1] - self.gram_first[item])
        shared = _among(text[owner] * span + self.gram_key[gram], present)
        return Meetings(text, item, owner, gram, shared)

    def _document_frequency(self, texts: pl.Series) -> np.ndarray:
        """In how many items of different text each key stands."""
        same = texts.fill_null("").rank("dense").to_numpy().astype(np.int64)
        seen = _distinct(self.gram_key * np.int64(len(texts) + 1) + same[self.gram_item])
        return np.bincount(seen // (len(texts) + 1), minlength=len(self.keys))

    def _distinctive_words(self) -> np.ndarray:
        """Which words of the stream stand in an n-gram that is not boilerplate."""
        rare = self.rare[self.gram_key]
        at = self.stream.first[:-1][self.gram_item[rare]] + self.gram_at[rare]
        return _union(at, self.n, len(self.stream.hashes))

    def _anchor(self) -> None:
        """Which items an n-gram brings up: those that it is rare in, and those that have no rare one, by their first."""
        rare = self.rare[self.gram_key]
        has_rare = np.zeros(len(self.length), dtype=bool)
        has_rare[self.gram_item[rare]] = True
        first = np.zeros(len(self.gram_item), dtype=bool)
        first[self.gram_first[:-1][self.length >= self.n]] = True
        anchors = np.flatnonzero(rare | (first & ~has_rare[self.gram_item]))
        order = anchors[np.argsort(self.gram_key[anchors], kind="stable")]
        self.anchor_item = self.gram_item[order]
        self.anchor_first = np.searchsorted(self.gram_key[order], np.arange(len(self.keys) + 1))


class WholeItems:
    """Items too short for n-grams: which texts contain all of one, as consecutive words."""

    def __init__(self, texts: pl.Series, min_words: int, n: int) -> None:
        stream = word_stream(texts)
        self._by_size: dict[int, tuple[_Known, np.ndarray, np.ndarray]] = {}
        for size in range(min_words, n):
            items = np.flatnonzero(stream.lengths == size)
            if len(items):
                hashes = window_hashes(stream.hashes, size)[stream.first[items]]
                keys, number = _numbered(hashes)
                order = np.argsort(number, kind="stable")
                first = np.searchsorted(number[order], np.arange(len(keys) + 1))
                self._by_size[size] = (_Known(keys), first, items[order])

    def containing(self, stream: WordStream) -> Iterator[tuple[int, int, bool]]:
        """``(text, item, whole)`` of each text that contains an item; ``whole`` if the text has no other word."""
        for size, (known, first, items) in self._by_size.items():
            start = window_starts(stream, size)
            hit, key = known.find(window_hashes(stream.hashes, size)[start])
            owner, place = _ranges(first[key], first[key + 1] - first[key])
            text = stream.owner[start[hit[owner]]]
            for t, i in sorted({(int(t), int(i)) for t, i in zip(text, items[place], strict=True)}):
                yield t, i, int(stream.lengths[t]) == size


class _Known:
    """A sorted set of hashes that most probes are turned away from by a small table."""

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys
        self._bits = min(_MOST_BITS, max(8, 4 + len(keys).bit_length()))
        self._table = np.zeros(1 << self._bits, dtype=bool)
        self._table[keys >> np.uint64(64 - self._bits)] = True

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the hashes that are known, and their numbers among the keys; both int64."""
        maybe = np.flatnonzero(self._table[hashes >> np.uint64(64 - self._bits)])
        if not len(maybe):
            return maybe, maybe
        wanted = hashes[maybe]
        key = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        hit = self.keys[key] == wanted
        return maybe[hit], key[hit]


def _ranges(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each range of ``count[i]`` numbers from ``first[i]``: whose it is, and the number; both int64."""
    owner = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, first[owner] + within


def _distinct(values: np.ndarray) -> np.ndarray:
    """Sorted, each once: what ``np.unique`` gives, by sorting, which is several times faster here."""
    ordered = np.sort(values)
    return ordered[_first_of_each(ordered)]


def _numbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in order, and the number of each value among them."""
    order = np.argsort(values)
    ordered = values[order]
    new = _first_of_each(ordered)
    number = np.empty(len(values), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return ordered[new], number


def _first_of_each(ordered: np.ndarray) -> np.ndarray:
    return np.concatenate((np.ones(min(1, len(ordered)), dtype=bool), ordered[1:] != ordered[:-1]))


def _among(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Whether each value stands in a sorted array."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[place] == values


def _union(starts: np.ndarray, n: int, size: int) -> np.ndarray:
    """Which of ``size`` words lie in a window of n words that begins at one of ``starts``."""
    change = np.bincount(starts, minlength=size + 1) - np.bincount(starts + n, minlength=size + 1)[: size + 1]
    return np.cumsum(change)[:size] > 0


def _sums(marks: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Marks per pair; pairs are the stretches between consecutive bases."""
    total = np.concatenate(([0], np.cumsum(marks)))
    return total[base[1:]] - total[base[:-1]]


def _first_use(item: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Whether an n-gram stands for the first time in its item."""
    order = np.lexsort((np.arange(len(key)), key, item))
    first = np.ones(len(key), dtype=bool)
    first[order[1:]] = (item[order[1:]] != item[order[:-1]]) | (key[order[1:]] != key[order[:-1]])
    return first
