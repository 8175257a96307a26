"""BSDetector's arithmetic: the published vector, symmetry, monotony, absent parts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.filter._bsdetector import (
    chances_of,
    combined,
    expected_score,
    noncontradiction,
    observed_consistency,
    reflected_certainty,
)

UNIT = st.floats(0, 1)


def test_the_published_vector():
    p = [(0.1, 0.2), (0, 0), (0.9, 0.7), (0.05, 0.15), (0, 0)]
    equal = [False, True, False, False, True]
    s = [noncontradiction(forward, backward) for forward, backward in p]
    assert s == pytest.approx([0.85, 1.0, 0.2, 0.9, 1.0])
    observed = observed_consistency(list(zip(s, equal, strict=True)), alpha=0.8)
    # 0.8 * (.85 + 1 + .2 + .9 + 1) / 5 + 0.2 * 2 / 5 = 0.632 + 0.08
    assert observed == pytest.approx(0.712)
    reflected = reflected_certainty([1.0, 0.5])
    assert reflected == 0.75
    assert combined(observed, reflected, beta=0.7) == pytest.approx(0.7 * 0.712 + 0.3 * 0.75) == pytest.approx(0.7234)


@given(UNIT, UNIT)
def test_noncontradiction_is_symmetric(forward, backward):
    assert noncontradiction(forward, backward) == noncontradiction(backward, forward)


@given(st.lists(st.tuples(UNIT, st.booleans()), min_size=1, max_size=6), st.data())
def test_confidence_rises_with_each_agreement(agreements, data):
    at = data.draw(st.integers(0, len(agreements) - 1))
    better = data.draw(st.floats(agreements[at][0], 1))
    raised = [*agreements]
    raised[at] = (better, agreements[at][1])
    before, after = (combined(observed_consistency(a, 0.8), 0.5, 0.7) for a in (agreements, raised))
    assert 0 <= before <= after <= 1


@given(st.one_of(st.none(), UNIT), st.one_of(st.none(), UNIT), UNIT)
def test_an_absent_part_leaves_the_other_alone(observed, reflected, beta):
    found = combined(observed, reflected, beta)
    present = [part for part in (observed, reflected) if part is not None]
    if not present:
        assert found is None
    elif len(present) == 1:
        assert found == pytest.approx(present[0], abs=1e-7)
    else:
        assert min(present) - 1e-7 <= found <= max(present) + 1e-7


def test_letter_probabilities_by_hand():
    sums = {"A": [math.log(0.06)], "B": [math.log(0.01), math.log(0.01)], "C": [math.log(0.02)]}
    found = chances_of(sums)
    assert found == pytest.approx({"A": 0.6, "B": 0.2, "C": 0.2})
    assert expected_score(found) == pytest.approx(0.6 + 0.5 * 0.2)


@given(st.lists(st.floats(-2000, 0), min_size=3, max_size=3))
def test_letter_probabilities_sum_to_one_however_unlikely_the_replies(sums):
    found = chances_of(dict(zip("ABC", ([s] for s in sums), strict=True)))
    assert sum(found.values()) == pytest.approx(1)
    assert 0 <= expected_score(found) <= 1
