"""Final answers: the published vectors, the order of markers, numbers and words."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.asking.answers import (
    FinalAnswer,
    final_answer,
    number_of,
    official_rft_answer,
    same_answer,
    same_final_answer,
    vote_key,
)

VECTORS = json.loads((Path(__file__).parents[1] / "generate" / "rft_vectors.json").read_text("utf-8"))


@pytest.mark.parametrize(("text", "answer"), VECTORS["extract_answer"].items())
def test_answers_are_found_where_the_published_code_finds_them(text: str, answer: str | None):
    assert official_rft_answer(text) == answer


def test_the_published_code_stops_reading_at_a_nul():
    assert official_rft_answer("a\x00#### 5") is None


@pytest.mark.parametrize(
    ("text", "answer", "where"),
    [
        ("48 + 24\n#### 72\nQuestion: more\n#### 9", "72", "hashes"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}", "boxed"),
        (r"#### 4 and \boxed{5}", r"4 and \boxed{5}", "hashes"),
        ("The answer is 3. No: the final answer is: **7.5**.", "7.5", "stated"),
        ("The answer is blue. It was red before.", "blue", "stated"),
        ("Adding up\nA: 250", "250", "labelled"),
        ("**Answer:** $12", "$12", "labelled"),
        ("We add 3 and 4, which makes 7 apples for all of them today.", "7", "last-number"),
        ("Two and two. Answer: 4", "4", "labelled"),
        ("<<2+2=4>> so: 4", "4", "last-number"),
        ("12 May 1990", "12 May 1990", "whole"),
        ("7 apples", "7 apples", "whole"),
        ("yes", "yes", "whole"),
    ],
)
def test_markers_count_in_this_order(text: str, answer: str, where: str):
    assert final_answer(text) == FinalAnswer(answer, where)


def test_without_a_guess_only_a_marker_counts():
    assert final_answer("It makes 7.", guess=False) is None
    assert final_answer("") is None
    assert final_answer("a long sentence that holds no number and states no answer at all") is None
    assert final_answer("\\boxed{never closed, and so it states nothing to anybody who reads it") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,234.50", 1234.5), ("-3", -3.0), ("12 apples", 12.0), ("5%", 5.0), ("3/4", 0.75), ("**8**", 8.0),
        (r"\frac{1}{2}", 0.5), ("3 or 4", None), ("-2,5,7", None), ("1/0", None), ("", None), ("blue", None),
        ("1" * 400, None), ("12 apples and 3 pears", None),
        ("x = 4", 4.0), ("It is -4.5 degrees.", -4.5),
    ],
)  # fmt: skip
def test_a_text_is_a_number_only_if_it_says_one(text: str, value: float | None):
    assert number_of(text) == value


def test_answers_are_equal_as_numbers_or_as_words():
    assert same_answer("72.00", "$72")
    assert not same_answer("72", "73")
    assert same_answer("72.00005", "72")
    assert not same_answer("72.0002", "72")
    assert same_answer("Blue!", "blue")
    assert same_answer("it is 12 May 1990", "1990")
    assert not same_answer("12 May 1990", "13 May 1990")
    assert not same_answer("72", "blue")


def test_a_solution_without_a_final_answer_is_neither_right_nor_wrong():
    prose = "there is nothing in this sentence that anybody could call an answer"
    assert same_final_answer(prose, "#### 4") is None
    assert same_final_answer("#### 4", "The answer is 4.") is True
    assert same_final_answer("#### 5", "The answer is 4.") is False


def test_votes_for_one_number_are_counted_together():
    keys = [vote_key(text) for text in ("so #### 1,012.50", "The answer is 1012.5.", "A: $1012.5")]
    assert set(keys) == {"1012.5"}


@given(st.text(max_size=80))
def test_any_text_has_an_answer_or_none_and_is_never_an_error(text: str):
    found = final_answer(text)
    assert found is None or found.text
    assert same_final_answer(text, text) in (True, None)
    vote_key(text)
