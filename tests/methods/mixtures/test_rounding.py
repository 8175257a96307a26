"""Shares of a budget: sums, caps, ties, and which examples are taken."""

import hashlib
import itertools

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.mixtures.rounding import choose, largest_remainder, normalized_weights, water_fill
from schemas.errors import InvariantViolation, UsageError

POOLS = st.lists(st.tuples(st.floats(0, 1e6) | st.just(1.0), st.integers(0, 50)), min_size=1, max_size=8)


def test_what_a_cap_refuses_goes_to_the_others_in_proportion():
    # 12 over (1,1,2): (3,3,6); the last holds 4, so 8 is left for two equal ones
    assert water_fill([1, 1, 2], 12, [100, 100, 4]).tolist() == [4, 4, 4]
    # (2,2,4), then 6 over (1,2) = (2,4), but the second of them holds 3: the first takes 3
    assert water_fill([1, 2, 1], 8, [9, 3, 2]).tolist() == [3, 3, 2]


def test_the_rest_goes_to_the_largest_remainders_and_ties_to_the_earlier():
    assert largest_remainder([0.5, 0.3, 0.2], 11) == [6, 3, 2]  # 5.5 3.3 2.2
    assert largest_remainder([1, 1, 1], 4) == [2, 1, 1]


def test_a_zero_weight_gets_nothing_even_when_there_is_room():
    assert largest_remainder([0, 1], 10, [10, 4]) == [0, 4]


@settings(deadline=None)
@given(POOLS, st.integers(0, 200))
def test_shares_sum_to_the_budget_stay_under_caps_and_grow_with_weight(pools: list, total: int):
    weights, caps = [w for w, _ in pools], [c for _, c in pools]
    shares = largest_remainder(weights, total, caps)
    assert sum(shares) == min(total, sum(c for w, c in pools if w > 0))
    assert all(0 <= s <= c for s, c in zip(shares, caps, strict=True))
    for (w, c, s), (v, d, t) in itertools.permutations(zip(weights, caps, shares, strict=True), 2):
        if c == d and w > v * (1 + 1e-6):
            assert s >= t


@settings(deadline=None)
@given(POOLS, st.integers(0, 100))
def test_water_filling_grows_with_the_budget(pools: list, total: int):
    weights, caps = [w for w, _ in pools], [c for _, c in pools]
    less, more = water_fill(weights, total, caps), water_fill(weights, total + 1, caps)
    assert (more - less >= -1e-9 * (total + 1)).all()


def test_weights_that_are_no_shares_are_refused():
    with pytest.raises(UsageError, match="not negative"):
        largest_remainder([1, -1], 5)
    with pytest.raises(UsageError, match="mix: weights"):
        normalized_weights([0, 0], "mix")
    with pytest.raises(UsageError, match="mix: weights"):
        normalized_weights([1, float("nan")], "mix")
    assert normalized_weights([1, 3], "mix") == [0.25, 0.75]


def ids_of(count: int) -> pl.Series:
    return pl.Series("id", [hashlib.sha256(str(i).encode()).digest()[:16] for i in range(count)], dtype=pl.Binary)


def times_of(ids: pl.Series, take: int, seed: int) -> list[int]:
    chosen = dict(choose(ids, take, seed).iter_rows())
    return [chosen.get(i, 0) for i in ids]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 30), st.integers(0, 3))
def test_choose_takes_full_repeats_and_a_remainder_without_replacement(count: int, take: int, seed: int):
    times = times_of(ids_of(count), take, seed)
    assert sum(times) == take
    assert max(times) - min(times) <= 1


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 20))
def test_a_larger_take_contains_the_smaller_one(count: int, take: int):
    ids = ids_of(count)
    assert all(a <= b for a, b in zip(times_of(ids, take, 1), times_of(ids, take + 1, 1), strict=True))


def test_choose_does_not_depend_on_the_order_of_rows():
    ids = ids_of(20)
    assert set(choose(ids, 6, 4)["id"]) == set(choose(ids.reverse(), 6, 4)["id"])


def test_nothing_can_be_taken_from_an_empty_pool():
    assert choose(ids_of(0), 0, 0).height == 0
    with pytest.raises(InvariantViolation, match="cannot take 3 examples out of 0"):
        choose(ids_of(0), 3, 0)
