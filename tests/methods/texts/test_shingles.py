"""Shingle sets against plain Python sets."""

import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.texts.shingles import Sets, shingles
from methods.texts.words import spacing_normalized, words

ALPHABET = st.sampled_from(list("ab .,C1\n\t\x00é中ก\u200b\u0301ﬁА🙂+"))
TEXTS = st.lists(st.text(ALPHABET, max_size=20), max_size=7)


def tokens_of(text: str, unit: str) -> list[str]:
    if unit == "chars":
        return list(pl.select(spacing_normalized(pl.lit(text))).item())
    visible = [c for c in unicodedata.normalize("NFKC", text) if not c.isspace() and unicodedata.category(c)[0] != "C"]
    return words(text) or visible


def plain(text: str, n: int, unit: str) -> set[tuple[str, ...]]:
    tokens = tokens_of(text, unit)
    return {tuple(tokens[i : i + n]) for i in range(max(1, len(tokens) - n + 1))} - {()}


def as_sets(found: Sets) -> list[list[int]]:
    return [found.hashes[a:b].tolist() for a, b in zip(found.first[:-1], found.first[1:], strict=True)]


@pytest.mark.parametrize("unit", ["words", "chars"])
@settings(deadline=None, max_examples=60)
@given(texts=TEXTS, n=st.integers(1, 4))
def test_two_texts_share_as_many_hashes_as_n_grams(unit, texts: list[str], n: int):
    found = as_sets(shingles(pl.Series(texts, dtype=pl.String), n, unit))
    expected = [plain(text, n, unit) for text in texts]
    assert [len(s) for s in found] == [len(s) for s in expected]
    assert all(s == sorted(set(s)) for s in found)
    for ours, theirs in zip(found, expected, strict=True):
        for other, other_theirs in zip(found, expected, strict=True):
            assert len(set(ours) & set(other)) == len(theirs & other_theirs)


def test_the_sets_do_not_depend_on_how_the_texts_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch):
    texts = pl.Series(["a b c d", "", "🙂🙂", "中文字", "e f", None, "g " * 30])
    for unit in ("words", "chars"):
        whole = shingles(texts, 2, unit)
        monkeypatch.setattr("methods.texts.shingles._CHARACTERS", 3)
        cut = shingles(texts, 2, unit)
        monkeypatch.undo()
        assert as_sets(cut) == as_sets(whole)


def jaccard(a: str, b: str, n: int, unit: str = "words") -> float:
    one, other = (set(s) for s in as_sets(shingles(pl.Series([a, b]), n, unit)))
    return len(one & other) / len(one | other)


def test_the_fox_and_his_cat():
    dog = "the quick brown fox jumps over the lazy dog"
    cat = dog[:-3] + "cat"
    assert [jaccard(dog, cat, n) for n in (1, 2, 3, 5)] == pytest.approx([7 / 9, 7 / 9, 6 / 8, 4 / 6])
    leaps = dog.replace("jumps", "leaps")
    assert [jaccard(dog, leaps, n) for n in (1, 2, 3, 5)] == pytest.approx([7 / 9, 6 / 10, 4 / 10, 0])


def test_a_short_text_is_one_shingle_and_never_that_of_a_longer_one():
    assert jaccard("Write a poem", "write a POEM!", 5) == 1
    assert jaccard("Write a poem", "write a song", 5) == 0
    assert jaccard("a b c d", "a b c d e", 5) == 0


def test_words_ignore_operators_and_characters_do_not():
    assert jaccard("What is 3 + 4?", "What is 3 - 4?", 2) == 1
    assert jaccard("What is 3 + 4?", "What is 3 - 4?", 3, "chars") < 0.7


def test_what_looks_the_same_is_the_same():
    assert jaccard("The quick brown fox runs", "Ｔhe qu\u200bick brοwn fóx  runs", 3) == 1
    assert jaccard("写一首关于春天的诗", "写一首关于春天的短诗", 3) == 6 / 9  # one character a word: 7 and 8 trigrams


def test_null_has_no_shingle_and_long_repetition_has_few():
    found = shingles(pl.Series([None, "again " * 10_000, "x" * 1_000_000]), 5)
    assert found.sizes.tolist() == [0, 1, 1]
    assert isinstance(found.hashes[0], np.uint32)
