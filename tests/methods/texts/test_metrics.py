"""Text metrics against the vectors of rouge-score and a plain search of the nearest text."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.texts.metrics import (
    RougePool,
    exact_match,
    final_number,
    max_rouge_l_above,
    rouge_l,
    rouge_l_f1,
    rouge_n,
    rouge_tokens,
    same_final_number,
)
from methods.texts.words import similarity_tokens

VECTORS = json.loads((Path(__file__).parent / "rouge_vectors.json").read_text(encoding="utf-8"))
TOKENS = st.lists(st.sampled_from(list("abcdefg")), max_size=12)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=range(len(VECTORS["cases"])))
def test_rouge_equals_the_published_implementation(case: dict):
    ours, reference = rouge_tokens(case["prediction"]), rouge_tokens(case["target"])
    for name, found in [
        ("rouge1", rouge_n(ours, reference, 1)),
        ("rouge2", rouge_n(ours, reference, 2)),
        ("rougeL", rouge_l(ours, reference)),
    ]:
        assert [found.precision, found.recall, found.f1] == pytest.approx(case["nostem"][name], abs=1e-6), name


@pytest.mark.parametrize("case", VECTORS["rouge_l_f1"], ids=lambda case: case[0][:20] or "empty")
def test_rouge_l_f1_of_the_specification_vectors(case: list):
    first, second, expected = case
    assert rouge_l_f1(rouge_tokens(first), rouge_tokens(second)) == pytest.approx(expected, abs=1e-9)


def test_published_tokens():
    for text, tokens in VECTORS["tokenize"].items():
        assert rouge_tokens(text) == tokens


def test_chinese_resembles_itself_with_script_aware_tokens():
    assert rouge_l_f1(rouge_tokens("写一首诗"), rouge_tokens("写一首诗")) == 0
    assert rouge_l_f1(similarity_tokens("写一首诗"), similarity_tokens("写一首诗")) == 1
    assert rouge_l_f1(similarity_tokens("写一首诗"), similarity_tokens("写一首歌")) == 0.75


def test_a_score_of_exactly_the_threshold_is_not_above_it():
    pool = RougePool([list("abcdefghij")])
    assert max_rouge_l_above(list("abcdefgxyz"), pool, 0.7) is None  # 2*7/20
    found = max_rouge_l_above(list("abcdefghyz"), pool, 0.7)
    assert found is not None
    assert (found.position, found.score) == (0, 0.8)


def test_the_earliest_of_equally_near_members_is_named():
    pool = RougePool([list("ab"), list("cd"), list("cd")])
    found = pool.nearest_above(list("cd"), 0.5)
    assert found is not None
    assert found.position == 1
    assert [n.position for n in pool.nearest(list("cd"), 3)] == [1, 2, 0]


def test_an_empty_candidate_or_pool_has_no_neighbor():
    assert RougePool().nearest_above(["a"], 0.0) is None
    assert RougePool([["a"], []]).nearest_above([], 0.0) is None


@settings(deadline=None)
@given(st.lists(TOKENS, max_size=12), TOKENS, st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9]))
def test_the_prefilter_never_misses_what_the_plain_loop_finds(members: list, candidate: list, threshold: float):
    scores = [rouge_l_f1(candidate, member) for member in members]
    found = RougePool(members).nearest_above(candidate, threshold)
    if found is None:
        assert max(scores, default=0.0) <= threshold
    else:
        assert found.score == max(scores) > threshold
        assert found.position == scores.index(max(scores))


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_rouge_l_is_symmetric_in_f1_and_one_exactly_for_equal_texts(first: list, second: list):
    assert rouge_l_f1(first, second) == rouge_l_f1(second, first)
    assert (rouge_l_f1(first, second) == 1) == (first == second and len(first) > 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 7 is 12.\n#### 1,012.50", 1012.5),
        ("The answer is -3.", -3.0),
        ("no number", None),
        ("4 came before #### none", None),
        ("10/2 = 5", 5.0),
        ("9" * 400, None),
    ],
)
def test_the_final_number_of_an_answer(text: str, number: float | None):
    assert final_number(text) == number


def test_two_answers_agree_when_their_final_numbers_do():
    assert same_final_number("so 18 eggs", "#### 18")
    assert same_final_number("$1,000", "1000.00")
    assert not same_final_number("none", "none")


def test_exact_match_ignores_case_punctuation_and_spacing_but_not_words():
    assert exact_match(" The Answer: Paris! ", "the answer paris")
    assert not exact_match("Paris, France", "Paris")
    assert exact_match("+", " + ")
    assert not exact_match("+", "-")
    assert not exact_match("", "a")
