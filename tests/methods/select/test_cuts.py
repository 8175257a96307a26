"""Cuts: nested budgets, ties by id, quotas per source."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from methods.select._budget import shared_out
from methods.select.quota import Quota
from methods.select.top import Top
from schemas.errors import InvariantViolation, UsageError
from tests.methods._pools import NOTHING, example_id, pool_of, reasons, rng

SCORES = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5, -3.0])), min_size=1, max_size=10)


def pool_and_ranking(scores: list, sources: list[str] | str = "toy") -> tuple[pl.DataFrame, pl.DataFrame]:
    pool = pool_of(*[("q", "a" * (4 * i)) for i in range(len(scores))], source=sources)
    return pool, pl.DataFrame({"id": pool["id"], "score": scores}, {"id": pl.Binary, "score": pl.Float64})


def kept(method, scores: list, sources: list[str] | str = "toy") -> set[int]:
    pool, ranking = pool_and_ranking(scores, sources)
    said = method.cut(pool, ranking, using=NOTHING, rng=rng())
    return {i for i, reason in enumerate(reasons(said, pool)) if reason is None}


def test_the_highest_scores_stay_and_the_threshold_is_the_lowest_of_them():
    pool, ranking = pool_and_ranking([1.0, 3.0, None, 2.0])
    said = Top(keep_examples=2).cut(pool, ranking, using=NOTHING, rng=rng())
    assert reasons(said, pool) == ["over-budget", None, "over-budget", None]
    rule = Top(keep_examples=2).settled_rules(said)[0]
    assert (rule.name, rule.threshold, rule.direction) == ("over-budget", 2.0, "keep-above")
    assert said["score"].to_list() == [1.0, 3.0, None, 2.0]


def test_what_has_no_score_comes_last_or_is_dropped():
    assert kept(Top(keep_examples=3), [1.0, None, 2.0, None]) in ({0, 2, 1}, {0, 2, 3})
    pool, ranking = pool_and_ranking([1.0, None, 2.0])
    said = Top(keep_examples=3, drop_unscored=True).cut(pool, ranking, using=NOTHING, rng=rng())
    assert reasons(said, pool) == [None, "unscored", None]


def test_a_fraction_is_of_the_pool():
    assert len(kept(Top(keep_fraction=0.3), [1.0] * 10)) == 3


def test_a_token_budget_stops_at_the_first_that_does_not_fit():
    # answers of 0, 4, 8 characters after "q": ceil(1/4)=1, ceil(5/4)=2, ceil(9/4)=3 tokens, and 8 for two turns each
    assert kept(Top(budget_tokens=20), [1.0, 2.0, 3.0]) == {2}  # 11; the next makes 21
    assert kept(Top(budget_tokens=21), [1.0, 2.0, 3.0]) == {1, 2}
    assert kept(Top(budget_tokens=5), [1.0, 2.0, 3.0]) == set()


@settings(deadline=None)
@given(SCORES, st.integers(1, 12))
def test_budgets_are_nested_ties_fall_to_the_id_and_row_order_does_not_matter(scores: list, budget: int):
    small, large = kept(Top(keep_examples=budget), scores), kept(Top(keep_examples=budget + 1), scores)
    assert small <= large
    assert len(small) == min(budget, len(scores))
    best = sorted(range(len(scores)), key=lambda i: (scores[i] is None, -(scores[i] or 0), example_id(i)))
    assert small == set(best[:budget])
    pool, ranking = pool_and_ranking(scores)
    backwards = Top(keep_examples=budget).cut(pool.reverse(), ranking.reverse(), using=NOTHING, rng=rng())
    assert {i for i, r in enumerate(reasons(backwards, pool)) if r is None} == small


def test_each_source_gives_its_share_and_small_ones_what_they_have():
    sources = ["a", "a", "a", "a", "b", "c", "c", "c"]
    scores = [4.0, 3.0, 2.0, 1.0, 0.5, 9.0, 8.0, 7.0]
    # 6 over three sources is 2 each; b has 1, so a and c give 2.5: the tie's extra one goes to the first by name
    assert kept(Quota(keep_examples=6), scores, sources) == {0, 1, 2, 4, 5, 6}
    assert kept(Quota(keep_examples=4, shares={"a": 3, "c": 1}), scores, sources) == {0, 1, 2, 5}


def test_fixed_quotas_per_source():
    sources = ["a", "a", "b", "b", "c"]
    assert kept(Quota(quotas={"a": 1}, others=1), [1.0, 2.0, 3.0, 4.0, 5.0], sources) == {1, 3, 4}
    assert kept(Quota(quotas={"a": 5}), [1.0, 2.0, 3.0, 4.0, 5.0], sources) == {0, 1}


def test_a_quota_for_a_source_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="quota names the source 'x'; the pool has toy"):
        kept(Quota(quotas={"x": 1}), [1.0])


@pytest.mark.parametrize(
    "fields",
    [{}, {"keep_examples": 0}, {"keep_examples": -1}, {"keep_examples": 1, "budget_tokens": 1}, {"keep_fraction": 1.5}],
)
def test_a_budget_is_one_positive_number(fields: dict):
    with pytest.raises(ValidationError):
        Top(**fields)


@pytest.mark.parametrize(
    "fields",
    [{}, {"quotas": {"a": -1}}, {"keep_examples": 1, "shares": {"a": 0}}, {"quotas": {"a": 1}, "shares": {"a": 1}}],
)
def test_quotas_that_make_no_sense_are_refused(fields: dict):
    with pytest.raises(ValidationError):
        Quota(**fields)


def test_a_ranking_that_is_not_of_this_pool_or_not_finite_is_refused():
    pool, ranking = pool_and_ranking([1.0, 2.0])
    with pytest.raises(InvariantViolation, match="1 scores, 1 of them for the 2 examples"):
        Top(keep_examples=1).cut(pool, ranking.head(1), using=NOTHING, rng=rng())
    infinite = ranking.with_columns(pl.Series("score", [float("nan"), float("inf")]))
    with pytest.raises(InvariantViolation, match="2 scores of the ranking are not finite"):
        Top(keep_examples=1).cut(pool, infinite, using=NOTHING, rng=rng())


def test_tokens_are_shared_by_source_and_what_a_small_source_cannot_use_goes_to_the_others():
    # rows of 9, 10, 11, 12, 13 and 14 tokens; a has the first two
    scores, sources = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], ["a", "a", "b", "b", "b", "b"]
    assert kept(Quota(budget_tokens=40), scores, sources) == {0, 1, 5}  # a 19 of 20; b 14 of 20, and 13 do not fit in 7
    assert kept(Quota(budget_tokens=60), scores, sources) == {0, 1, 5, 4, 3}  # all of a; 39 of the 41 that are left
    assert kept(Quota(budget_tokens=40, shares={"b": 1}), scores, sources) == {5, 4, 3}
    assert kept(Quota(quotas={"a": 10, "b": 30}, quota_unit="tokens"), scores, sources) == {1, 5, 4}
    assert kept(Quota(quotas={"b": 14}, others=9, quota_unit="tokens"), scores, sources) == {5}, "10 do not fit in 9"


@pytest.mark.parametrize(
    "fields",
    [
        {"keep_examples": 2, "budget_tokens": 2},
        {"budget_tokens": 0},
        {"budget_tokens": 9, "quota_unit": "tokens"},
        {"budget_tokens": 9, "quotas": {"a": 1}},
    ],
)
def test_a_quota_with_two_budgets_or_none_is_a_mistake_of_the_recipe(fields: dict):
    with pytest.raises(ValidationError):
        Quota(**fields)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.lists(st.integers(1, 30), max_size=6)), min_size=1, max_size=5),
    st.integers(0, 200),
)
def test_shares_in_tokens_never_exceed_the_room_and_leave_none_that_still_fits(groups: list, room: int):
    weights, queues = [w for w, _ in groups], [np.array(costs, dtype=float) for _, costs in groups]
    taken = shared_out(weights, room, queues)
    spent = sum(float(costs[:n].sum()) for costs, n in zip(queues, taken, strict=True))
    assert spent <= room
    for weight, costs, n in zip(weights, queues, taken, strict=True):
        assert 0 <= n <= len(costs)
        if weight > 0 and n < len(costs):
            assert spent + costs[n] > room
        if weight == 0:
            assert n == 0
