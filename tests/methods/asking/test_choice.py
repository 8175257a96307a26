"""Choosing in a group: ties, missing scores, DivPO's oracles, expected maxima."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.asking.choice import (
    Pair,
    best,
    by_score,
    distinct,
    diverse_pair,
    ends_of_range,
    inverse_frequency,
    top_share,
)


def test_the_earliest_of_the_highest_is_best_and_what_has_no_score_is_never_chosen():
    assert best([0.1, None, 0.7, 0.7]) == 2
    assert best([None, None]) is None
    assert best([]) is None
    assert by_score([None, -1.0, -1.0, 3.0]) == [3, 1, 2]


def test_the_top_share_is_rounded_down_but_never_empty():
    assert top_share([5, 4, 3, 2, 1], 0.5) == {0, 1}
    assert top_share([5, 4, 3], 0.1) == {0}
    assert top_share([None, None], 0.5) == set()
    assert top_share([1, 1, 1, 1], 0.5) == {0, 1}


def test_best_of_k_uniform_rewards_has_the_known_mean():
    """E[max of K uniforms] = K / (K + 1), for K 1, 4, 9: 0.5, 0.8, 0.9; the standard error of 4,000 is below 0.005."""
    rng = np.random.default_rng(7)
    for k, mean in ((1, 0.5), (4, 0.8), (9, 0.9)):
        groups = rng.random((4000, k)).tolist()
        kept = [group[best(group)] for group in groups]  # type: ignore[index]
        assert np.mean(kept) == pytest.approx(mean, abs=0.02)


rewards_of = st.lists(st.floats(0, 1, width=16), min_size=1, max_size=12)


@given(rewards_of)
def test_no_range_is_best_and_worst_and_half_of_it_is_everybody(rewards: list[float]):
    good, bad = ends_of_range(rewards, 0.0)
    assert {rewards[i] for i in good} == {max(rewards)}
    assert {rewards[i] for i in bad} == {min(rewards)}
    good, bad = ends_of_range(rewards, 0.5)
    assert set(good) | set(bad) == set(range(len(rewards)))
    good, bad = ends_of_range(rewards, 0.5, "rank")
    assert set(good) | set(bad) == set(range(len(rewards)))


@given(rewards_of, st.floats(0, 0.5), st.sampled_from(["range", "rank"]), st.data())
def test_a_pair_never_prefers_the_lower_reward_and_never_pairs_equal_answers(rewards, p, mode, data):
    n = len(rewards)
    diversity = data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    same = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    pair = diverse_pair(rewards, diversity, same, p, mode)
    if pair is not None:
        assert rewards[pair.chosen] >= rewards[pair.rejected]
        assert same[pair.chosen] != same[pair.rejected]
    elif mode == "range" and p == 0.5:
        # everybody took part: all good ones have no other answer of a lower or equal reward beside them
        good, bad = ends_of_range(rewards, p)
        assert all(same[i] == same[j] or rewards[j] > rewards[i] for i in good for j in bad)


def test_the_pair_is_the_rarest_good_and_the_commonest_bad_answer():
    """Rewards 1, 1, 0.95, 0, 0.05: with range 0.1 good are 0, 1, 2 and bad 3, 4. Rarest good: 2; commonest bad: 4."""
    pair = diverse_pair([1, 1, 0.95, 0, 0.05], [0.2, 0.3, 0.9, 0.8, 0.1], range(5), 0.1)
    assert pair == Pair(chosen=2, rejected=4)
    assert diverse_pair([1, 1, 0.95, 0, 0.05], [0.2, 0.3, 0.9, 0.8, 0.1], range(5), 0.0) == Pair(1, 3)


def test_equal_rewards_leave_the_choice_to_diversity():
    assert diverse_pair([1, 1, 1], [0.5, 0.9, 0.1], range(3), 0.0) == Pair(1, 2)
    assert diverse_pair([1, 1], [0.5, 0.5], "aa", 0.5) is None


def test_an_answer_that_is_there_m_times_is_less_diverse_than_one_that_is_there_once():
    common, rare = ["it", "is", "four"], ["about", "five", "maybe"]
    values = inverse_frequency([common, common, common, rare, []])
    assert values == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 0])


def test_of_equal_keys_the_first_stands_or_the_farthest_from_the_others():
    texts = ["aaaa", "bbbb", "aabb", "zzzzzzzz"]
    keys = ["x", "y", "x", "x"]
    assert distinct(keys, texts) == {"x": 0, "y": 1}
    # against "bbbb": "aaaa" is 4 edits away, "aabb" 2, "zzzzzzzz" 8
    assert distinct(keys, texts, "farthest") == {"x": 3, "y": 1}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.text("ab", max_size=5)), max_size=12),
    st.sampled_from(["first", "farthest"]),
)
def test_keys_are_unique_and_more_candidates_never_make_fewer_of_them(candidates, keep):
    keys, texts = [k for k, _ in candidates], [t for _, t in candidates]
    held = distinct(keys, texts, keep)
    assert set(held) == set(keys)
    assert all(keys[i] == key for key, i in held.items())
    assert len(distinct(keys[:-1], texts[:-1], keep)) <= len(held)
