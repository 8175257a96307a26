"""Mixtures: published weights, caps on repetition, and what is refused."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from methods.mix._blend import blend
from methods.mix.fixed import Fixed
from methods.mix.proportional import Proportional, capped
from methods.mix.proportional_with_caps import ProportionalWithCaps
from methods.mix.temperature import Temperature, temperature_weights
from methods.mix.unimax import UniMax
from schemas.errors import UsageError
from schemas.method import Blend
from tests.methods._pools import NOTHING, rng

SIZES = [1_000, 10_000, 100_000, 1_000_000]


def weigh(method, **sizes: int) -> Blend:
    pools = {name: pl.DataFrame({"id": pl.Series([b""] * n, dtype=pl.Binary)}) for name, n in sizes.items()}
    return method.weigh(pools, using=NOTHING, rng=rng())


def test_proportional_with_a_cap_of_3000():
    counted = capped(SIZES, 3_000)
    assert [n / sum(counted) for n in counted] == pytest.approx([0.1, 0.3, 0.3, 0.3])


def test_temperatures_two_and_three():
    assert temperature_weights(SIZES, 2) == pytest.approx([0.02184, 0.06907, 0.21841, 0.69068], abs=1e-5)
    assert temperature_weights(SIZES, 3) == pytest.approx([0.05619, 0.12106, 0.26082, 0.56192], abs=1e-5)


def test_unimax_fills_the_small_first():
    found = blend(dict(zip("abcd", SIZES, strict=True)), [1, 1, 1, 1], 300_000, 4)
    assert list(found.take.values()) == [4_000, 40_000, 128_000, 128_000]
    assert found.notes["repetition"]["a"] == 4
    assert found.notes["capped"] == ["a", "b"]


def test_unimax_over_pools():
    assert weigh(UniMax(total_examples=30, max_repeats=4), a=1, b=10, c=100).take == {"a": 4, "b": 13, "c": 13}


def test_fixed_without_a_total_is_as_large_as_the_weights_allow():
    found = weigh(Fixed(weights={"a": 1, "b": 3}), a=100, b=60, c=5)
    assert found.take == {"a": 20, "b": 60, "c": 0}
    assert found.weights == {"a": 0.25, "b": 0.75, "c": 0.0}
    assert weigh(Fixed(weights={"a": 1, "b": 3}, max_repeats=2), a=100, b=60).take == {"a": 40, "b": 120}


def test_a_source_that_is_too_small_is_named_and_the_others_make_up_for_it():
    found = weigh(Fixed(weights={"a": 1, "b": 1}, total_examples=100), a=100, b=30)
    assert found.take == {"a": 70, "b": 30}
    assert found.notes["capped"] == ["b"]
    assert found.notes["asked"] == {"a": 0.5, "b": 0.5}


def test_temperature_one_takes_everything_once():
    assert weigh(Temperature(temperature=1), a=7, b=11).take == {"a": 7, "b": 11}


def test_proportional_takes_what_it_counts():
    assert weigh(Proportional(cap=5), a=3, b=50).take == {"a": 3, "b": 5}
    assert weigh(Proportional(cap=5, total_examples=16, max_repeats=2), a=3, b=50).take == {"a": 6, "b": 10}


def test_flans_two_caps():
    found = weigh(ProportionalWithCaps(rate_cap=30, source_cap=60), a=10, b=50, c=1000)
    assert found.notes["asked"] == pytest.approx({"a": 10 / 70, "b": 30 / 70, "c": 30 / 70})
    assert found.take == {"a": 10, "b": 50, "c": 60}, "120 in all; a has no more, b neither, and c gives its cap"
    assert found.notes["repetition"]["c"] == 0.06
    small = weigh(ProportionalWithCaps(rate_cap=30, source_cap=60, total_examples=70), a=10, b=50, c=1000)
    assert small.take == {"a": 10, "b": 30, "c": 30}


def test_some_sources_have_fixed_shares_and_the_others_divide_the_rest():
    found = weigh(ProportionalWithCaps(shares={"chat": 0.1}, total_examples=100), chat=500, a=30, b=500)
    assert found.notes["asked"] == pytest.approx({"a": 0.9 * 30 / 530, "b": 0.9 * 500 / 530, "chat": 0.1})
    assert found.take["chat"] == 10
    with pytest.raises(UsageError, match="shares names the source 'x'; the pools are a"):
        weigh(ProportionalWithCaps(shares={"x": 0.5}), a=5)
    with pytest.raises(UsageError, match="no other has examples; let them sum to 1"):
        weigh(ProportionalWithCaps(shares={"a": 0.5}), a=5)
    assert weigh(ProportionalWithCaps(shares={"a": 1.0}), a=5, b=5).take == {"a": 5, "b": 0}
    with pytest.raises(ValidationError, match="at most 1 in all"):
        ProportionalWithCaps(shares={"a": 0.7, "b": 0.7})


def test_a_pool_without_examples_gets_no_weight():
    for method in (Temperature(), Proportional(), UniMax(), ProportionalWithCaps()):
        found = weigh(method, a=0, b=4)
        assert (found.weights["a"], found.take["a"]) == (0, 0)
        with pytest.raises(UsageError, match="nothing to mix"):
            weigh(method, a=0)


def test_weights_for_a_source_that_is_not_there_or_no_weights_are_refused():
    with pytest.raises(UsageError, match="mix names the source 'x'; the pools are a"):
        weigh(Fixed(weights={"x": 1}), a=5)
    with pytest.raises(UsageError, match="weights must be finite"):
        blend({"a": 5}, [0.0], 5, 1)
    for weights in ({}, {"a": -1}, {"a": 0}, {"a": float("inf")}):
        with pytest.raises(ValidationError):
            Fixed(weights=weights)


def test_a_cap_that_leaves_nothing_is_refused():
    with pytest.raises(UsageError, match="leaves nothing"):
        weigh(UniMax(total_examples=5, max_repeats=0.1), a=5)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(any),
    st.integers(1, 200),
    st.sampled_from([1.0, 1.5, 4.0]),
    st.sampled_from(["temperature", "proportional", "unimax"]),
)
def test_weights_sum_to_one_and_no_example_repeats_more_than_allowed(sizes, total, repeats, kind):
    kinds = {"temperature": Temperature, "proportional": Proportional, "unimax": UniMax}
    found = weigh(kinds[kind](total_examples=total, max_repeats=repeats), **{f"p{i}": n for i, n in enumerate(sizes)})
    assert sum(found.weights.values()) == pytest.approx(1)
    assert sum(found.take.values()) == min(total, sum(int(repeats * n) for n in sizes))
    assert all(found.take[f"p{i}"] <= repeats * n for i, n in enumerate(sizes))
