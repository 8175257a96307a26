"""Designs of runs, curves of amounts, the laws of training length, and the sentence about what was found."""

import math

import numpy as np
import pytest

from methods.mixtures.amounts import best_amounts, extrapolated_amounts, source_curves
from methods.mixtures.designs import dirichlet, halvings, lattice, one_at_a_time
from methods.mixtures.findings import compared, sentence, share_intervals, student_interval
from methods.mixtures.step_laws import extrapolated, shared_exponent
from schemas.errors import UsageError


def test_dirichlet_runs_start_with_prior_and_uniform_and_cover_corner_and_middle():
    prior = np.array([0.6, 0.3, 0.1, 0.0])
    found = dirichlet(prior, 64, np.random.default_rng(0))
    assert found[0] == pytest.approx(prior)
    assert found[1] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert found.sum(axis=1) == pytest.approx(np.ones(64))
    assert (found[:, 3] == 0).all(), "a source without examples is in no run"
    assert found.max() > 0.95
    assert (found[:, :3].min(axis=1) > 0.1).any()
    assert np.array_equal(dirichlet(prior, 20, np.random.default_rng(0)), found[:20]), "a longer queue starts the same"


def test_a_lattice_and_halvings_by_hand():
    assert len(lattice(3, 4)) == 15
    assert sorted(map(tuple, lattice(2, 2).tolist())) == [(0, 1), (0.5, 0.5), (1, 0)]
    two = halvings(2, 100, np.random.default_rng(0), smallest=1 / 4)
    thirds = [(0, 1), (1 / 5, 4 / 5), (1 / 3, 2 / 3), (1 / 2, 1 / 2), (2 / 3, 1 / 3), (4 / 5, 1 / 5), (1, 0)]
    assert np.array(sorted(two.tolist())) == pytest.approx(np.array(thirds))
    three = halvings(3, 30, np.random.default_rng(0))
    assert three[:4] == pytest.approx(np.vstack([np.eye(3), np.full((1, 3), 1 / 3)])), (
        "single sources and uniform first"
    )
    many = halvings(12, 40, np.random.default_rng(0))
    assert many.shape == (40, 12)
    assert len(np.unique(many, axis=0)) == 40
    assert many.sum(axis=1) == pytest.approx(np.ones(40))


def test_one_source_less_and_more_in_turn():
    assert one_at_a_time([30, 9], 3) == [[30, 9], [10, 9], [90, 9], [30, 3], [30, 27]]


def test_curves_through_three_points_are_exact_power_laws():
    def loss(a: float, b: float) -> float:
        return 2 + 3 * a**-0.5 + 2 * b**-0.3

    rows = one_at_a_time([90, 90], 3)
    curves = source_curves(np.array([90.0, 90.0]), np.array([loss(*row) for row in rows]), 3)
    assert [c.exponent for c in curves] == pytest.approx([0.5, 0.3])
    assert [c.scale for c in curves] == pytest.approx([3, 2])
    found = best_amounts(curves, 200)
    grid = np.linspace(1, 199, 1981)
    assert found[0] == pytest.approx(grid[np.argmin(loss(grid, 200 - grid))], abs=0.2)


def test_a_source_that_does_not_help_gets_the_least_and_straight_drops_become_logarithms():
    harmful = source_curves(np.array([30.0]), np.array([2.0, 1.9, 2.1]), 3)
    assert harmful[0].scale == 0
    straight = source_curves(np.array([30.0]), np.array([2.0, 2.1, 1.9]), 3)
    assert straight[0].exponent == 0
    assert straight[0].scale == pytest.approx(0.1 / math.log(3))
    assert best_amounts([*harmful, *straight], 100, floor=0.1) == pytest.approx([10, 90], abs=1e-3)
    assert best_amounts(harmful * 2, 100) == pytest.approx([50, 50])
    assert source_curves(np.array([30.0]), np.array([2.0, np.nan, 1.9]), 3)[0].scale == 0


def test_amounts_are_extrapolated_as_published():
    small, large = np.array([30.0, 50, 20]), np.array([50.0, 80, 70])
    grown = large * large / small
    assert grown == pytest.approx([83.33, 128, 245], abs=0.01)
    assert extrapolated_amounts(small, large, grown.sum()) == pytest.approx([0.1826, 0.2805, 0.5369], abs=1e-4)
    assert extrapolated_amounts(small, large, 150) == pytest.approx(large / 200)


def test_losses_are_read_off_at_longer_trainings():
    steps = np.array([1, 2, 3, 4]) / 4
    traces = np.array([[1 + 0.5 * s**-0.5 for s in steps], [2 + 0.1 * s**-0.5 for s in steps]])
    exponent, floors, scales = shared_exponent(steps, traces)
    assert exponent == pytest.approx(0.5, abs=0.03)
    assert floors == pytest.approx([1, 2], abs=0.05)
    assert scales == pytest.approx([0.5, 0.1], abs=0.05)
    results = [{"losses": {"g": t[-1]}, "steps": {"g": t.tolist()}} for t in traces]
    results.append({"losses": {"g": None}, "steps": {"g": [1.0, None, None, None]}})
    longer = extrapolated(results, 4.0)
    assert [r["losses"]["g"] for r in longer[:2]] == pytest.approx([1.25, 2.05], abs=0.01)
    assert longer[2]["losses"]["g"] is None
    assert results[0]["losses"]["g"] == 1.5, "the measured results stay"


def test_students_interval_by_hand():
    found = student_interval([1.0, 2.0, 3.0])
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (2, 2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3))
    )
    assert math.isinf(student_interval([1.0]).high)
    assert student_interval([0.0, 1.0] * 50).high == pytest.approx(0.5 + 1.984 * 0.05025, abs=1e-3)
    with pytest.raises(UsageError, match="at least one value"):
        student_interval([])


def test_the_sentence_says_better_worse_and_no_different():
    losses = {"proposed": [1.0, 1.1, None], "uniform": [1.3, 1.41, 1.0], "proportional": [0.9, 1.2, 1.0]}
    others = compared(losses)
    assert [one.verdict for one in others] == ["better", "no different"]
    assert others[0].difference.estimate == pytest.approx(-0.305)
    told = sentence(losses["proposed"], others)
    assert told.startswith("measured loss 1.0500 over 2 seeds: better than uniform (1.3550; -0.3050")
    assert "no different from proportional" in told
    assert compared({"proposed": [2.0, 2.1], "uniform": [1.0, 1.1]})[0].verdict == "worse"
    assert sentence([1.0], []) == "the mixture was not measured against others"
    assert "ended without a finite loss" in sentence([None], [])
    assert "inf" not in sentence([1.0], compared({"proposed": [1.0], "uniform": [1.5]}))


def test_rounding_is_no_difference():
    seeds = np.array([1.0047, 1.0046, 1.0048])
    same = compared({"proposed": (seeds - 1e-9).tolist(), "uniform": seeds.tolist(), "other": (seeds - 2e-5).tolist()})
    assert [one.verdict for one in same] == ["no different", "no different"], "what four digits do not show"
    assert compared({"proposed": seeds.tolist(), "uniform": (seeds + 1e-3).tolist()})[0].verdict == "better"


def test_intervals_of_weights_need_two_refits():
    assert share_intervals(np.zeros((1, 2)), ["a", "b"]) == {}
    assert share_intervals(np.array([[0.0, 1.0], [1.0, 0.0]]), ["a", "b"])["a"] == pytest.approx([0.025, 0.975])
