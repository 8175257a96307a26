"""Where two texts say the same: runs of equal words, as character ranges of both raw texts."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.texts.ngrams import WordStream, window_hashes, word_stream


@dataclass(frozen=True)
class Span:
    """A run of ``words`` equal words: half-open character ranges in the raw text and in the raw item."""

    text: tuple[int, int]
    item: tuple[int, int]
    words: int


def matched_spans(texts: pl.Series, items: pl.Series, n: int) -> list[list[Span]]:
    """The runs of at least ``n`` equal words of each pair of texts, in the item's order, not overlapping in the item."""
    ours, theirs = word_stream(texts), word_stream(items)
    return [_runs(ours, theirs, i, n) for i in range(len(texts))]


def _runs(ours: WordStream, theirs: WordStream, i: int, n: int) -> list[Span]:
    text = slice(ours.first[i], ours.first[i + 1])
    item = slice(theirs.first[i], theirs.first[i + 1])
    a, b = ours.hashes[text], theirs.hashes[item]
    if len(a) < n or len(b) < n or n < 1:
        return []
    places: dict[int, list[int]] = {}
    for at, key in enumerate(window_hashes(a, n)[: len(a) - n + 1].tolist()):
        places.setdefault(key, []).append(at)
    spans: list[Span] = []
    keys = window_hashes(b, n)[: len(b) - n + 1].tolist()
    at = 0
    while at < len(keys):
        options = [(_length(a, b, place, at), -place) for place in places.get(keys[at], ())[:64]]
        if not options:
            at += 1
            continue
        length, place = max(options)
        begin = -place
        spans.append(
            Span(
                (int(ours.start[text][begin]), int(ours.end[text][begin + length - 1])),
                (int(theirs.start[item][at]), int(theirs.end[item][at + length - 1])),
                length,
            )
        )
        at += length
    return spans


def _length(a: np.ndarray, b: np.ndarray, i: int, j: int) -> int:
    """How many words are equal from here on."""
    size = min(len(a) - i, len(b) - j)
    different = np.flatnonzero(a[i : i + size] != b[j : j + size])
    return int(different[0]) if len(different) else size
