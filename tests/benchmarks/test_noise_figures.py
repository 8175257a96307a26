"""The figures of the noise benchmark, by hand: precision-recall area, reliability, intervals over rows and seeds."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from benchmarks._noise_signals import average_precision, doubts, reliability, reliability_svg
from benchmarks._noise_training import crossed_interval


def test_average_precision_by_hand_and_ties_enter_together():
    bad = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), bad) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([1.0, 1.0, 1.0, 1.0]), bad) == 0.5, "no information: the share of bad rows"
    assert average_precision(np.array([2.0, 1.0, 2.0, 1.0]), bad) == 1.0


def test_an_absent_confidence_is_put_at_the_mean():
    assert doubts([0.2, None, 0.6]).tolist() == pytest.approx([0.8, 0.6, 0.4])
    assert doubts([None, None]).tolist() == [0.0, 0.0]


def test_reliability_is_the_gap_between_confidence_and_share_right():
    found = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, True, True, True]), bins=2)
    assert found["bins"] == [
        {"confidence": 0.1, "right": 0.5, "rows": 2},
        {"confidence": 0.9, "right": 1.0, "rows": 2},
    ]
    assert found["expected_calibration_error"] == pytest.approx((0.4 + 0.1) / 2)
    root = ET.fromstring(reliability_svg({"a": found}, "title"))
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 2


def test_the_interval_of_a_difference_is_wider_with_seeds_that_disagree():
    rng = np.random.default_rng(0)
    rows = rng.normal(0.1, 0.5, size=200)
    agree = np.stack([rows, rows, rows])
    low, high = crossed_interval(agree, 1)
    assert low < rows.mean() < high
    disagree = np.stack([rows - 0.3, rows, rows + 0.3])
    wide_low, wide_high = crossed_interval(disagree, 1)
    assert wide_high - wide_low > 1.5 * (high - low)
