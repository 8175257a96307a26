"""Words and n-grams of many texts as numbers: 64-bit hashes with the raw offsets that lead back to the text.

Texts become one array of bytes; folding is a table look-up, a word's hash a few loads of eight bytes, an n-gram's hash a
few shifted multiply-adds. No Python runs per word. The words are exactly `methods.texts.words.words`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.keyed import mix64
from methods.texts.words import fold_character

#: Odd multiplier of the n-gram hash, and what tells words of different lengths apart. A change of either changes every
#: stored signature.
_WORD_BASE = np.uint64(0xD1342543DE82EF95)
_LENGTH = np.uint64(0x9E6C63D0876A9A47)


@dataclass(frozen=True)
class WordStream:
    """The words of some texts, end to end.

    ``hashes`` uint64, one per word; text ``i`` has the words ``first[i]:first[i+1]``; ``start`` and ``end`` are the
    word's character offsets in its own raw text, so that ``text[start:end]`` folds to the word.
    """

    hashes: np.ndarray
    first: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Words per text, int64."""
        return np.diff(self.first)

    @property
    def owner(self) -> np.ndarray:
        """Which text each word belongs to, int64."""
        return np.repeat(np.arange(len(self.first) - 1), self.lengths)


def word_stream(texts: pl.Series) -> WordStream:
    """The words of all texts at once (null counts as empty); memory is about 40 bytes per character."""
    filled = texts.fill_null("")
    ascii_ = filled.str.len_bytes() == filled.str.len_chars()
    plain = (ascii_ & ~filled.str.contains(_INVISIBLE_ASCII)).to_numpy()
    if plain.all():
        return _ascii_stream(filled)
    if not plain.any():
        return _unicode_stream(filled)
    return _interleaved(_ascii_stream(filled.filter(plain)), _unicode_stream(filled.filter(~plain)), plain)


def word_streams(texts: pl.Series, characters: int = 1_000_000) -> Iterator[tuple[int, WordStream]]:
    """Streams of consecutive slices with the row each begins at, at most about ``characters`` long (or one text)."""
    ends = texts.fill_null("").str.len_chars().cast(pl.Int64).cum_sum().to_numpy()
    begin = 0
    while begin < len(texts):
        before = int(ends[begin - 1]) if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, before + characters, side="right")))
        yield begin, word_stream(texts.slice(begin, stop - begin))
        begin = stop


@dataclass(frozen=True)
class NGrams:
    """Hashes of all windows of n words that lie in one text; ``word`` is the window's first word in the stream."""

    hashes: np.ndarray
    word: np.ndarray


def ngrams(stream: WordStream, n: int) -> NGrams:
    """All n-grams of all texts, in order; none of a text with fewer than n words."""
    word = window_starts(stream, n)
    return NGrams(window_hashes(stream.hashes, n)[word], word)


def window_starts(stream: WordStream, n: int) -> np.ndarray:
    """Words at which a window of n words of one text begins, int64."""
    last = stream.first[1:] - n
    at = np.arange(len(stream.hashes))
    return at[at <= np.repeat(last, stream.lengths)]


def window_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """Hash of the words ``i … i+n-1`` for every i, uint64, shape (len(words),); the last n-1 are of shorter windows."""
    total = np.zeros(len(words), dtype=np.uint64)
    block, size, done = words.copy(), 1, 0
    remaining = n
    while remaining:  # binary: sums of 1, 2, 4 … words, combined as the bits of n ask
        if remaining & 1 and done < len(words):
            total[: len(words) - done] += block[done:] * _power(_WORD_BASE, done)
            done += size
        remaining >>= 1
        if remaining and size < len(words):
            block[: len(words) - size] += block[size:] * _power(_WORD_BASE, size)
        size *= 2
    return mix64(total)


def _power(base: np.uint64, exponent: int) -> np.uint64:
    return np.uint64(pow(int(base), exponent, 2**64))


def _ascii_stream(texts: pl.Series) -> WordStream:
    raw = "\n".join(texts.to_list()).encode("ascii")
    folded = _ASCII[np.frombuffer(raw, dtype=np.uint8)]
    return _stream(folded, None, texts.str.len_bytes().to_numpy().astype(np.int64))


def _unicode_stream(texts: pl.Series) -> WordStream:
    points = np.frombuffer("\n".join(texts.to_list()).encode("utf-32-le"), dtype=np.uint32)
    seen = np.zeros(0x110000, dtype=bool)
    seen[points] = True
    codes = np.flatnonzero(seen)
    foldings = [fold_character(int(code)).encode() for code in codes]
    sizes = np.array([len(folding) for folding in foldings], dtype=np.int64)
    pieces = np.frombuffer(b"".join(foldings).replace(b" ", b"\0"), dtype=np.uint8)
    rank = np.zeros(0x110000, dtype=np.int32)
    rank[codes] = np.arange(len(codes))
    which = rank[points]
    size = sizes[which]
    origin = np.repeat(np.arange(len(points)), size)
    within = np.arange(len(origin)) - np.repeat(np.cumsum(size) - size, size)
    folded = pieces[(np.cumsum(sizes) - sizes)[which[origin]] + within]
    return _stream(folded, origin, texts.str.len_chars().to_numpy().astype(np.int64))


def _stream(folded: np.ndarray, origin: np.ndarray | None, lengths: np.ndarray) -> WordStream:
    """Words of folded UTF-8 (0 separates). ``origin`` maps each byte to its raw character in the joined texts."""
    letter = np.zeros(len(folded) + 2, dtype=bool)
    np.not_equal(folded, 0, out=letter[1:-1])
    edges = np.flatnonzero(letter[1:] != letter[:-1])
    begin, end = edges[0::2], edges[1::2]
    begins_at = np.concatenate(([0], np.cumsum(lengths + 1)))  # of each text in the joined texts
    raw_begin = begin if origin is None else origin[begin]
    raw_end = end if origin is None else origin[end - 1] + 1
    first = np.searchsorted(raw_begin, begins_at).astype(np.int64)
    first[-1] = len(begin)
    base = np.repeat(begins_at[:-1], np.diff(first))
    return WordStream(
        _word_hashes(folded, begin, end), first, (raw_begin - base).astype(np.int32), (raw_end - base).astype(np.int32)
    )


def _word_hashes(folded: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A mixed uint64 per word, from its bytes eight at a time and its length."""
    padded = np.zeros(len(folded) + 8, dtype=np.uint8)
    padded[: len(folded)] = folded
    # Eight bytes from any position on: a view, not a copy.
    eight = np.ndarray((len(folded) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    size = end - begin
    hashes = mix64((eight[begin] & _FIRST_BYTES[np.minimum(size, 8)]) ^ (size.astype(np.uint64) * _LENGTH))
    long = np.flatnonzero(size > 8)
    for done in range(8, _LONGEST, 8):
        if not len(long):
            break
        more = eight[begin[long] + done] & _FIRST_BYTES[np.minimum(size[long] - done, 8)]
        hashes[long] = mix64(hashes[long] ^ more)
        long = long[size[long] > done + 8]
    for word in long.tolist():  # hundreds of characters without a space: not a word, and rare
        digest = hashlib.blake2b(padded[begin[word] : end[word]].tobytes(), digest_size=8).digest()
        hashes[word] = np.frombuffer(digest, dtype="<u8")[0]
    return hashes


def _interleaved(plain: WordStream, other: WordStream, is_plain: np.ndarray) -> WordStream:
    """Two streams as one, text by text in the original order."""
    lengths = np.empty(len(is_plain), dtype=np.int64)
    lengths[is_plain], lengths[~is_plain] = plain.lengths, other.lengths
    first = np.concatenate(([0], np.cumsum(lengths)))
    from_plain = np.repeat(is_plain, lengths)

    def merged(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        both = np.empty(len(from_plain), dtype=ours.dtype)
        both[from_plain], both[~from_plain] = ours, theirs
        return both

    return WordStream(
        merged(plain.hashes, other.hashes), first, merged(plain.start, other.start), merged(plain.end, other.end)
    )


def _ascii_table() -> np.ndarray:
    """Folded ASCII characters, 0 for separators (texts with invisible ones take the general path)."""
    return np.array([ord(fold_character(code).strip() or "\0") for code in range(128)], dtype=np.uint8)


_ASCII = _ascii_table()
_FIRST_BYTES = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)
_LONGEST = 256  # bytes of a word that are read eight at a time
_INVISIBLE_ASCII = r"[\x00-\x08\x0e-\x1b\x7f]"
