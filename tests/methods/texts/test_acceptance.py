"""Greedy acceptance and nearest members against plain loops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.texts.acceptance import RougeStanding, accept_greedily
from methods.texts.metrics import Neighbor, RougePool, rouge_l_f1

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join), max_size=25)


def standing(limit: float, *, at_limit_kept: bool = False, texts=()) -> RougeStanding:
    return RougeStanding(str.split, limit, at_limit_kept=at_limit_kept, texts=texts)


def test_an_accepted_candidate_stands_before_the_next_is_looked_at():
    decisions = accept_greedily(["a b c d", "a b c e", "x y"], standing(0.7), neighbors=2)
    # a b c d against a b c e: LCS 3, F1 = 6 / 8 = 0.75
    assert [d.position for d in decisions] == [0, None, 1]
    assert decisions[1].neighbors == (Neighbor(0, 0.75),)
    assert decisions[2].neighbors == (Neighbor(0, 0.0),)


def test_the_order_decides_which_of_two_alike_is_taken():
    assert [d.position for d in accept_greedily(["a b c e", "a b c d"], standing(0.7))] == [0, None]


def test_at_exactly_the_limit_the_setting_decides():
    near = ["a b c d e f g h i j", "a b c d e f g x y z"]  # 14 / 20 = 0.7
    assert [d.position for d in accept_greedily(near, standing(0.7))] == [0, None]
    assert [d.position for d in accept_greedily(near, standing(0.7, at_limit_kept=True))] == [0, 1]


def test_what_stood_before_forbids_too_and_positions_go_on():
    decisions = accept_greedily(["a b c d", "p q"], standing(0.7, texts=["a b c d", "k l"]))
    assert [d.position for d in decisions] == [None, 2]


@given(TEXTS, st.sampled_from([0.3, 0.5, 0.7, 1.0]), st.booleans())
def test_decisions_are_those_of_a_plain_loop(texts, limit, at_limit_kept):
    accepted: list[str] = []
    expected = []
    for text in texts:
        worst = max((rouge_l_f1(text.split(), other.split()) for other in accepted), default=-1.0)
        too_near = worst > limit if at_limit_kept else worst >= limit
        expected.append(not too_near)
        if not too_near:
            accepted.append(text)
    found = accept_greedily(texts, standing(limit, at_limit_kept=at_limit_kept))
    assert [d.position is not None for d in found] == expected


@given(TEXTS, st.lists(st.sampled_from("abcde"), max_size=6), st.integers(0, 4))
def test_the_nearest_members_are_those_of_a_full_search(texts, candidate, count):
    members = [text.split() for text in texts]
    scored = [Neighbor(i, rouge_l_f1(member, candidate)) for i, member in enumerate(members)]
    best = sorted(scored, key=lambda n: (-n.score, n.position))[:count]
    assert RougePool(members).nearest(candidate, count) == best


@given(TEXTS, st.lists(st.sampled_from("abcde"), max_size=6))
def test_the_mean_is_over_everything_that_stands(texts, candidate):
    scores = [rouge_l_f1(text.split(), candidate) for text in texts]
    found = RougePool(text.split() for text in texts).mean(candidate)
    assert found == pytest.approx(sum(scores) / len(scores) if scores else 0.0)


def test_means_are_recorded_where_they_are_asked_for():
    first, second = accept_greedily(["a b c d", "a x y z"], standing(0.7), means=True)
    assert (first.mean, second.mean) == (0.0, 0.25)
    assert accept_greedily(["a"], standing(0.7))[0].mean is None
