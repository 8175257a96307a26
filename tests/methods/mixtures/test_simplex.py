"""Shares under caps, multiplicative updates and the exact convex minimum, against values worked out elsewhere and grids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.mixtures.simplex import exponentiated, kl_divergence, minimize, project, smoothed, softmax, within
from schemas.errors import UsageError

RATES = np.array([[-3.0, -0.5], [-0.2, -2.0]])
PRIOR = np.array([0.7, 0.3])
shares_of = st.lists(st.floats(0.01, 1), min_size=2, max_size=6).map(lambda x: np.array(x) / sum(x))


def two_groups(shares: np.ndarray) -> tuple[float, np.ndarray]:
    """OLMix's objective of the specification: half of ``exp(A p)`` for each of two groups."""
    losses = np.exp(RATES @ shares) / 2
    return float(losses.sum()), losses @ RATES


@pytest.mark.parametrize(
    ("kl", "first"), [(0.0, 0.4252), (0.05, 0.4690), (0.1, 0.5016), (1.0, 0.6473), (100.0, 0.6994)]
)
def test_the_kl_regularized_minimum_is_the_published_one(kl: float, first: float):
    found = minimize(two_groups, PRIOR, prior=PRIOR, kl=kl)
    assert found.shares == pytest.approx([first, 1 - first], abs=1e-4)
    assert found.gap < 1e-8
    grid = np.linspace(0.001, 0.999, 999)
    values = [two_groups(np.array([p, 1 - p]))[0] + kl * kl_divergence(np.array([p, 1 - p]), PRIOR) for p in grid]
    assert found.value <= min(values) + 1e-9
    assert abs(grid[int(np.argmin(values))] - found.shares[0]) < 2e-3


def test_a_separable_objective_is_filled_like_water():
    rates = np.array([2.0, 5.0, 10.0])
    found = minimize(lambda p: (float(np.exp(-rates * p).sum()), -rates * np.exp(-rates * p)), np.ones(3) / 3)
    assert found.shares == pytest.approx([0.40987, 0.34721, 0.24292], abs=1e-5)


def test_a_strong_prior_wins_and_a_cap_binds():
    assert minimize(two_groups, PRIOR, prior=PRIOR, kl=1e6).shares == pytest.approx(PRIOR, abs=1e-5)
    assert minimize(two_groups, PRIOR, np.array([1.0, 0.4])).shares == pytest.approx([0.6, 0.4], abs=1e-9)


def test_a_linear_objective_ends_in_a_corner_and_a_closed_source_stays_out():
    costs = np.array([3.0, 1.0, 2.0])
    assert minimize(lambda p: (float(costs @ p), costs), np.ones(3) / 3).shares == pytest.approx([0, 1, 0], abs=1e-6)
    closed = minimize(lambda p: (float(costs @ p), costs), np.ones(3) / 3, np.array([1.0, 0.0, 1.0]))
    assert closed.shares == pytest.approx([0, 0, 1], abs=1e-6)
    no_prior = minimize(lambda p: (float(costs @ p), costs), np.ones(3), prior=np.array([0.5, 0.0, 0.5]), kl=0.01)
    assert no_prior.shares[1] == 0


def test_multiplicative_updates_by_hand():
    assert exponentiated(np.array([0.5, 0.5]), np.array([np.log(3), 0.0]), 1.0) == pytest.approx([0.75, 0.25])
    assert exponentiated(np.array([1.0, 0.0]), np.array([0.0, 9.0]), 1.0) == pytest.approx([1, 0])
    assert smoothed(np.array([1.0, 0.0]), 0.2) == pytest.approx([0.9, 0.1])
    assert softmax(np.array([1e4, 0.0])) == pytest.approx([1, 0])


def test_projections_by_hand_and_without_room():
    assert project(np.array([0.8, 0.6])) == pytest.approx([0.6, 0.4])
    assert project(np.array([2.0, 0.0, 0.0])) == pytest.approx([1, 0, 0])
    assert project(np.array([2.0, 0.0, 0.0]), np.array([0.5, 1, 1])) == pytest.approx([0.5, 0.25, 0.25])
    assert within(np.array([0.8, 0.1, 0.1]), np.array([0.5, 1, 1])) == pytest.approx([0.5, 0.25, 0.25])
    for cut in (project, within):
        with pytest.raises(UsageError, match=r"sum to 0\.5 leave no room"):
            cut(np.array([0.5, 0.5]), np.array([0.25, 0.25]))


@settings(deadline=None, max_examples=40)
@given(shares_of, st.data())
def test_shares_stay_shares_and_no_rate_means_no_move(start: np.ndarray, data: st.DataObject):
    size = len(start)
    signal = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=size, max_size=size)))
    moved = exponentiated(start, signal, 0.7)
    assert moved.sum() == pytest.approx(1)
    assert exponentiated(start, signal, 0.0) == pytest.approx(start)
    order = np.argsort(signal, kind="stable")
    assert exponentiated(start[order], signal[order], 0.7) == pytest.approx(moved[order]), "names do not matter"
    caps = np.full(size, 1.2 / size)
    for cut in (project(moved, caps), within(moved, caps)):
        assert cut.sum() == pytest.approx(1)
        assert (cut <= caps + 1e-12).all()
        assert (cut >= 0).all()


@settings(deadline=None, max_examples=25)
@given(shares_of, st.floats(0, 2))
def test_no_random_mixture_beats_the_minimum(prior: np.ndarray, kl: float):
    rates = np.random.default_rng(len(prior)).normal(size=(2, len(prior)))

    def objective(p: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.exp(rates @ p).sum()), np.exp(rates @ p) @ rates

    found = minimize(objective, prior, prior=prior, kl=kl)
    for other in np.random.default_rng(0).dirichlet(np.ones(len(prior)), 50):
        assert found.value <= objective(other)[0] + kl * kl_divergence(other, prior) + 1e-7
