"""How much does a text repeat itself? Duplicate n-grams and back-to-back loops, for many texts at once."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.keyed import mix64
from methods.texts.ngrams import WordStream, ngrams, word_streams

N = 5  # words of the n-grams whose repetition is counted
LONGEST_UNIT = 8  # words of the longest unit that is looked for back to back
LONGEST_SPELLED = 32  # characters of the longest unit in a text that hardly has words
SPELLED = 200  # characters of the shortest loop of such units


@dataclass(frozen=True)
class Repetition:
    """Per text: ``words`` in it; ``duplicate_fraction`` of its 5-grams that occurred before in it; and its longest loop.

    A loop is a unit of 1 to 8 words said ``loop_times`` in a row, over the characters ``loop_start:loop_end``, which
    hold ``loop_fraction`` of the words. In a text of more than 20 characters a word (one letter a million times, digits,
    emoji, spaces) it is a unit of 1 to 32 characters, 200 of them or more in a row, and the fraction one of characters;
    ``spelled`` says so.
    """

    words: np.ndarray
    duplicate_fraction: np.ndarray
    loop_fraction: np.ndarray
    loop_times: np.ndarray
    loop_unit: np.ndarray
    loop_start: np.ndarray
    loop_end: np.ndarray
    spelled: np.ndarray


def repetition_of(texts: pl.Series) -> Repetition:
    """One entry per text; zeros for texts with nothing repeated."""
    pieces = [_of_stream(stream) for _, stream in word_streams(texts)]
    if not pieces:
        none = np.zeros(0)
        return Repetition(none, none, none, none, none, none, none, np.zeros(0, dtype=bool))
    words, duplicates, fraction, times, unit, start, end = (np.concatenate(c) for c in zip(*pieces, strict=True))
    characters = texts.str.len_chars().fill_null(0).to_numpy()
    spelled = np.zeros(len(words), dtype=bool)
    for row in np.flatnonzero((characters >= SPELLED) & (characters > 20 * words)).tolist():
        span, size, first = _spelled_loop(texts[row])
        if span >= SPELLED and span / characters[row] > fraction[row]:
            spelled[row], fraction[row], times[row] = True, span / characters[row], span // size
            unit[row], start[row], end[row] = size, first, first + span
    return Repetition(words, duplicates, fraction, times, unit, start, end, spelled)


def _spelled_loop(text: str) -> tuple[int, int, int]:
    """Length, unit and start, in characters, of the longest stretch that repeats a unit of at most 32, the shortest unit.

    >>> _spelled_loop("so abababab.")
    (8, 2, 3)
    """
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    best = (0, 1, 0)
    for unit in range(1, min(LONGEST_SPELLED, len(letters) // 3) + 1):
        ends = np.flatnonzero(np.append(letters[unit:] != letters[:-unit], True))  # where a run of repeats breaks off
        starts = np.concatenate(([0], ends[:-1] + 1))
        longest = int(np.argmax(ends - starts))
        span = int(ends[longest] - starts[longest]) + unit
        if span >= 3 * unit and span > best[0]:
            best = (span, unit, int(starts[longest]))
    return best


def _of_stream(stream: WordStream) -> tuple[np.ndarray, ...]:
    return (stream.lengths, _duplicate_fraction(stream), *_longest_loops(stream))


def _duplicate_fraction(stream: WordStream) -> np.ndarray:
    grams = ngrams(stream, N)
    owner = stream.owner[grams.word]
    texts = len(stream.first) - 1
    total = np.bincount(owner, minlength=texts)
    keys = grams.hashes ^ mix64(owner.astype(np.uint64))  # equal exactly for equal n-grams of one text
    ordered = np.sort(keys)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return np.zeros(texts)
    place = np.minimum(np.searchsorted(twice, keys), len(twice) - 1)
    among = np.flatnonzero(twice[place] == keys)
    _, first = np.unique(keys[among], return_index=True)
    repeated = np.bincount(owner[among], minlength=texts) - np.bincount(owner[among[first]], minlength=texts)
    return repeated / np.maximum(total, 1)


def _longest_loops(stream: WordStream) -> tuple[np.ndarray, ...]:
    texts = len(stream.first) - 1
    span = np.zeros(texts, dtype=np.int64)  # words of the longest loop
    unit, begin = np.ones(texts, dtype=np.int64), np.zeros(texts, dtype=np.int64)
    owner = stream.owner
    for size in range(1, LONGEST_UNIT + 1):
        if len(owner) <= size:
            break
        # Word i equals word i+size of the same text: a run of k of them is a loop of k+size words.
        same = np.flatnonzero(stream.hashes[size:] == stream.hashes[:-size])
        same = same[owner[same] == owner[same + size]]
        if not len(same):
            continue
        new = np.flatnonzero(np.concatenate(([True], np.diff(same) != 1)))
        start, length = same[new], np.diff(np.append(new, len(same))) + size
        text = owner[start]
        long = length >= 3 * size  # said fewer than three times is no loop
        start, length, text = start[long], length[long], text[long]
        best = np.lexsort((-start, length))  # ascending, so that the longest (and first) is written last
        better = best[length[best] > span[text[best]]]
        span[text[better]], unit[text[better]], begin[text[better]] = length[better], size, start[better]
    found = span > 0
    last = np.where(found, begin + span - 1, 0)
    starts = np.where(found, stream.start[begin], 0) if len(owner) else np.zeros(texts)
    ends = np.where(found, stream.end[last], 0) if len(owner) else np.zeros(texts)
    return span / np.maximum(stream.lengths, 1), span // unit, unit, starts, ends
