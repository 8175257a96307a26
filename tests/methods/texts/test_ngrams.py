"""Vectorised words and n-grams against plain Python."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.texts.ngrams import ngrams, window_hashes, word_stream, word_streams
from methods.texts.words import words

ALPHABET = st.sampled_from(list("ab .,-C1\n\t\x00\x07é中ก\u200b\u0301ﬁ½Аß🙂\u00a0"))
TEXTS = st.lists(st.text(ALPHABET, max_size=30) | st.text(max_size=20), max_size=8)


@settings(deadline=None)
@given(TEXTS)
def test_the_stream_holds_the_words_of_each_text_with_spans_that_fold_back_to_them(texts: list[str]):
    stream = word_stream(pl.Series(texts, dtype=pl.String))
    names: dict[int, str] = {}
    for i, text in enumerate(texts):
        found = range(stream.first[i], stream.first[i + 1])
        expected = words(text)
        assert len(found) == len(expected)
        for at, word in zip(found, expected, strict=True):
            span = text[stream.start[at] : stream.end[at]]
            assert word in words(span)
            assert names.setdefault(int(stream.hashes[at]), word) == word  # equal hash, equal word
    assert len(set(names.values())) == len(names)  # and the other way round


def test_spans_cover_exactly_the_word_in_the_raw_text():
    text = "Ｔhe\u200b qu\u200bick—brown\nfox 中文"
    stream = word_stream(pl.Series([text]))
    spans = [text[a:b] for a, b in zip(stream.start, stream.end, strict=True)]
    assert spans == ["Ｔhe", "qu\u200bick", "brown", "fox", "中", "文"]


def test_null_and_empty_texts_have_no_words():
    stream = word_stream(pl.Series([None, "", "a", "...", None], dtype=pl.String))
    assert stream.first.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(word_stream(pl.Series([], dtype=pl.String)).hashes) == 0


@settings(deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_ngrams_are_equal_exactly_when_their_words_are(texts: list[str], n: int):
    stream = word_stream(pl.Series(texts, dtype=pl.String))
    grams = ngrams(stream, n)
    expected = [tuple(w[i : i + n]) for w in map(words, texts) for i in range(len(w) - n + 1)]
    assert len(grams.hashes) == len(expected)
    assert len(set(zip(grams.hashes.tolist(), expected, strict=True))) == len(set(expected))
    assert len(set(grams.hashes.tolist())) == len(set(expected))


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.integers(1, 17))
def test_a_window_hash_depends_on_its_own_words_only(values: list[int], n: int):
    data = np.array(values, dtype=np.uint64)
    whole = window_hashes(data, n)
    for i in range(len(values) - n + 1):
        assert whole[i] == window_hashes(data[i : i + n], n)[0]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40))
def test_slices_give_the_same_words_as_the_whole(texts: list[str], size: int):
    series = pl.Series(texts, dtype=pl.String)
    whole = word_stream(series)
    pieces = list(word_streams(series, size))
    assert np.concatenate([np.empty(0, np.uint64), *[s.hashes for _, s in pieces]]).tolist() == whole.hashes.tolist()
    assert [b for b, _ in pieces] == np.cumsum([0, *[len(s.lengths) for _, s in pieces]]).tolist()[: len(pieces)]


def test_long_words_are_told_apart_by_every_character_and_found_again_anywhere():
    words_ = [f"{'x' * i}{end}" for i in range(1, 300, 3) for end in "ab"]
    alone = word_stream(pl.Series(words_)).hashes.tolist()
    assert len(set(alone)) == len(words_)
    assert word_stream(pl.Series([" é, ".join(words_)])).hashes[::2].tolist() == alone


def test_word_hashes_are_the_stored_ones():
    """The hash is part of stored signatures: if this moves, versions of the methods that store hashes must rise."""
    assert word_stream(pl.Series(["hello world"])).hashes.tolist() == [4935186996517525629, 7416424381109296955]
