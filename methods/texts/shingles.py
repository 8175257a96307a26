"""Shingles: a text as the set of its n-grams of words or characters, each a 32-bit hash.

Words are those of `methods.texts.words.words`: folded, and single characters in scripts that put no spaces between words. A text
with fewer than n words is one shingle, so that it still equals itself; a text without any word (emoji, operators) counts
by its visible characters. Only a text without a visible character has no shingle.
"""

import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from methods.keyed import mix64
from methods.texts.ngrams import window_hashes, word_streams
from methods.texts.segments import counted, equal_neighbours, sorted_segments
from methods.texts.words import spacing_normalized

Unit = Literal["words", "chars"]
_CHARACTERS = 1_000_000  # of text worked on at once


@dataclass(frozen=True)
class Sets:
    """Sets of uint32, end to end: set ``i`` is ``hashes[first[i]:first[i+1]]``, ascending, each element once."""

    hashes: np.ndarray
    first: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Elements per set, int64."""
        return np.diff(self.first)


def shingles(texts: pl.Series, n: int, unit: Unit = "words") -> Sets:
    """The set of n-gram hashes of each text; null counts as empty."""
    pieces = _character_pieces(texts, n) if unit == "chars" else _word_pieces(texts, n)
    hashes, sizes = [np.empty(0, dtype=np.uint32)], [np.empty(0, dtype=np.int64)]
    for piece in pieces:
        hashes.append(piece.hashes)
        sizes.append(piece.sizes)
    return Sets(np.concatenate(hashes), np.concatenate(([0], np.cumsum(np.concatenate(sizes)))))


def sets_of(tokens: np.ndarray, first: np.ndarray, n: int) -> Sets:
    """Sets of n-grams of rows of mixed uint64 tokens; a row shorter than n gives one element, an empty row none."""
    sizes = np.diff(first)
    hashes = window_hashes(tokens, n)
    for short in range(1, n):
        rows = np.flatnonzero(sizes == short)
        if len(rows):
            hashes[first[rows]] = mix64(window_hashes(tokens, short)[first[rows]])
    windows = np.where(sizes > 0, np.maximum(sizes - n + 1, 1), 0)
    begins = np.concatenate(([0], np.cumsum(windows)))
    place = np.repeat(first[:-1] - begins[:-1], windows) + np.arange(int(begins[-1]))
    found = sorted_segments((hashes[place] >> np.uint64(32)).astype(np.uint32), begins)
    again = equal_neighbours(found, begins)
    if not again.any():
        return Sets(found, begins)
    return Sets(found[~again], np.concatenate(([0], np.cumsum(windows - counted(again, begins)))))


def _word_pieces(texts: pl.Series, n: int) -> list[Sets]:
    pieces: list[Sets] = []
    for begin, stream in word_streams(texts, _CHARACTERS):
        tokens, first = stream.hashes, stream.first
        wordless = np.flatnonzero(stream.lengths == 0)
        said = texts.slice(begin, len(stream.lengths)).gather(wordless).fill_null("")
        signs = {int(row): found for row, text in zip(wordless, said, strict=True) if len(found := _signs(text))}
        if signs:
            tokens = np.insert(
                tokens,
                np.repeat(first[list(signs)], [len(s) for s in signs.values()]),
                np.concatenate(list(signs.values())),
            )
            sizes = stream.lengths.copy()
            sizes[list(signs)] = [len(found) for found in signs.values()]
            first = np.concatenate(([0], np.cumsum(sizes)))
        pieces.append(sets_of(tokens, first, n))
    return pieces


def _character_pieces(texts: pl.Series, n: int) -> list[Sets]:
    plain = pl.DataFrame({"text": texts}).select(spacing_normalized(pl.col("text").fill_null("")))["text"]
    lengths = plain.str.len_chars().cast(pl.Int64).to_numpy()
    ends = np.cumsum(lengths)
    pieces: list[Sets] = []
    begin = 0
    while begin < len(plain):
        stop = max(begin + 1, int(np.searchsorted(ends, ends[begin] - lengths[begin] + _CHARACTERS, side="right")))
        joined = "".join(plain.slice(begin, stop - begin).to_list())
        points = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32)
        first = np.concatenate(([0], np.cumsum(lengths[begin:stop])))
        pieces.append(sets_of(mix64(points.astype(np.uint64)), first, n))
        begin = stop
    return pieces


def _signs(text: str) -> np.ndarray:
    """Hashes of the visible characters of a text without words."""
    visible = [
        ord(c) for c in unicodedata.normalize("NFKC", text) if not c.isspace() and unicodedata.category(c)[0] != "C"
    ]
    return mix64(np.array(visible, dtype=np.uint64))
