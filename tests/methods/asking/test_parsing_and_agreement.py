"""Total parsers and votes: what cannot be read is never filled in."""

import doctest
import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.asking.agreement import agree_in_both_orders, majority, mean_of_present, weighted
from methods.asking.parsing import Unparsed, after_marker, letter_of, parsed, verdict_of, yes_or_no


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("explanation: it adds up, answer: A", "A"),
        ("Explanation: wrong, Answer: (B).", "B"),
        ("answer: a at first, but on reflection answer: C", "C"),
        ("The answer is B", "B"),
        ("**C**", "C"),
        ("I choose (A) Correct.", "A"),
        ("A", "A"),
    ],
)
def test_a_letter_is_read_where_one_is_stated(text, letter):
    assert letter_of(text) == letter


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no letter"),
        ("A cat sat on the mat.", "no letter"),
        ("I can't say.", "no letter"),
        ("(A) or (B), hard to say", "several letters"),
        ("answer: Absolutely", "no letter"),
        ("answer: D", "no letter"),
        ("Correct!", "no letter"),
    ],
)
def test_what_states_no_letter_is_unparsed_with_the_reason(text, why):
    assert letter_of(text) == Unparsed(why)


@given(st.text())
def test_parsers_are_total(text):
    assert letter_of(text) in ("A", "B", "C") or isinstance(letter_of(text), Unparsed)
    assert isinstance(yes_or_no(text), bool | Unparsed)
    assert isinstance(after_marker(text), str | Unparsed)


def test_yes_and_no_by_the_first_word():
    assert yes_or_no("Yes.") is True
    assert yes_or_no(" no, because") is False
    assert yes_or_no("Yesterday") == Unparsed("neither yes nor no")
    assert yes_or_no("...") == Unparsed("empty")


def test_after_marker_takes_the_last_and_never_an_empty_one():
    assert after_marker("answer: 3. No, answer: 4") == "4"
    assert after_marker("I do not know") == Unparsed("no 'answer:'")
    assert after_marker("Answer: ") == Unparsed("nothing after 'answer:'")


def test_failures_are_left_out_not_filled_in():
    assert parsed([1, Unparsed("x"), 2]) == [1, 2]
    assert mean_of_present([1.0, None, 0.0]) == 0.5
    assert mean_of_present([None]) is None
    assert majority([None, None]) is None


def test_a_tied_majority_takes_the_first_seen_and_says_so():
    vote = majority(["b", "a", "a", "b", None])
    assert (vote.winner, vote.share, vote.votes, vote.tied) == ("b", 0.5, 4, True)


@given(st.lists(st.sampled_from(["x", "y", "z", None]), min_size=1), st.randoms())
def test_an_untied_majority_does_not_depend_on_the_order(values, random):
    vote = majority(values)
    shuffled = [*values]
    random.shuffle(shuffled)
    again = majority(shuffled)
    if vote and not vote.tied:
        assert again == vote
        assert 0 < vote.share <= 1


def test_a_judge_that_always_says_a_agrees_with_nobody():
    assert agree_in_both_orders("A", "A") == "tie"
    assert agree_in_both_orders("A", "B") == "A"
    assert agree_in_both_orders("B", "A") == "B"
    assert agree_in_both_orders("tie", "A") == "tie"
    assert agree_in_both_orders("A", "tie") == "tie"


def test_absent_parts_rescale_the_weights():
    assert weighted([(0.7, 0.712), (0.3, 0.75)]) == pytest.approx(0.7234)
    assert weighted([(0.5, None), (0.25, 1.0), (0.25, 0.0)]) == 0.5
    assert weighted([(0.0, 1.0)]) is None


@pytest.mark.parametrize(
    "module",
    [
        "methods.asking.sampling",
        "methods.asking.parsing",
        "methods.asking.agreement",
        "methods.asking.prompts",
        "methods.generate._parse",
        "methods.filter._bsdetector",
    ],
)
def test_examples_in_docstrings_hold(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("reason: shorter, verdict: A", "A"),
        ("verdict: A at first sight, but then verdict: B", "B"),
        ("**Verdict**: [[B]]", "B"),
        ("verdict is tie", "tie"),
        ("verdict: a tie", "tie"),
        ("Tie.", "tie"),
        (" b\n", "B"),
        ("verdict: A is better than B", "A"),
    ],
)
def test_a_verdict_is_read_wherever_it_is_stated(text, verdict):
    assert verdict_of(text) == verdict


@pytest.mark.parametrize(
    "text", ["", "Both are good.", "verdict: a good one wins", "verdict:", "verdict: Ah", "A or B"]
)
def test_a_reply_without_a_verdict_is_no_verdict(text):
    assert verdict_of(text) == Unparsed("no verdict")
