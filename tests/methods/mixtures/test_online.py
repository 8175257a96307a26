"""Online rules against the published vectors, and Skill-It's order on the simulated skills."""

import numpy as np
import pytest

from methods.mixtures.designs import spiked
from methods.mixtures.online import (
    aioli,
    doremi,
    mixing_matrix,
    normalized_matrix,
    odm,
    odm_exploration,
    odm_reward,
    skill_graph,
    skill_it,
    skill_it_start,
)
from methods.mixtures.simplex import exponentiated, minimize

LEGO = np.array([[1, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=float)
ADDITION = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=float)
EVALUATED = [np.array(row) for row in ([0.9] * 5, [0.5, 0.8, 0.6, 0.7, 0.9], [0.1, 0.5, 0.3, 0.4, 0.8])]


def test_skill_its_first_mixtures_are_the_published_ones():
    assert skill_it_start(LEGO, 0.5) == pytest.approx([0.117901, 0.528396, 0.117901, 0.117901, 0.117901], abs=1e-6)
    assert skill_it_start(ADDITION, 0.1) == pytest.approx([0.322043, 0.355913, 0.322043], abs=1e-6)


def test_skill_its_updates_are_the_published_ones():
    one = skill_it(LEGO, EVALUATED[2:], 0.5)
    assert one == pytest.approx([0.153653, 0.279973, 0.169812, 0.178519, 0.218043], abs=1e-6)
    summed = skill_it(LEGO, EVALUATED, 0.5)
    assert summed == pytest.approx([0.039581, 0.795006, 0.045987, 0.050823, 0.068604], abs=1e-6)
    averaged = skill_it(LEGO, EVALUATED, 0.5, "mean")
    assert averaged == pytest.approx([0.14169, 0.385153, 0.148954, 0.154003, 0.1702], abs=1e-5)


def test_summing_all_evaluations_is_the_ordinary_multiplicative_update():
    shares = np.full(5, 0.2)
    for losses in EVALUATED:
        shares = exponentiated(shares, LEGO @ losses, 0.5)
    assert skill_it(LEGO, EVALUATED, 0.5) == pytest.approx(shares)


def test_a_complete_graph_is_uniform_and_an_empty_one_follows_the_losses():
    losses = np.array([0.1, 0.5, 0.9])
    assert skill_it(np.ones((3, 3)), [losses], 0.5) == pytest.approx(np.full(3, 1 / 3))
    weights = np.exp(0.5 * losses)
    assert skill_it(np.eye(3), [losses], 0.5) == pytest.approx(weights / weights.sum())


def mean_loss(mixture_of) -> float:
    """Six rounds of twenty steps of ``L <- L (1 - .05 A^T p)`` from ones."""
    losses, seen = np.ones(5), []
    for _ in range(6):
        shares = mixture_of(seen)
        for _ in range(20):
            losses = losses * (1 - 0.05 * (LEGO.T @ shares))
        seen.append(losses)
    return float(losses.mean())


def by_skill_it(rate: float):
    return lambda seen: skill_it(LEGO, seen[-3:], rate) if seen else skill_it_start(LEGO, rate)


def test_the_simulated_skills_are_learned_in_the_published_order():
    uniform = mean_loss(lambda seen: np.full(5, 0.2))
    assert uniform == pytest.approx(0.17287, abs=1e-5)
    found = {rate: mean_loss(by_skill_it(rate)) for rate in (0.5, 1, 2, 5, 10)}
    assert found == pytest.approx({0.5: 0.09874, 1: 0.07064, 2: 0.04832, 5: 0.04662, 10: 0.04059}, abs=1e-5)

    def exponential(shares: np.ndarray) -> tuple[float, np.ndarray]:
        losses = np.exp(-6 * (LEGO.T @ shares)) / 5
        return float(losses.sum()), -6 * LEGO @ losses

    static = minimize(exponential, np.full(5, 0.2))
    assert static.shares == pytest.approx([0, 0.6155, 0, 0, 0.3845], abs=1e-4)
    assert static.value == pytest.approx(0.03983, abs=1e-5)
    assert uniform > found[0.5] > found[2] > static.value


def test_a_skill_graph_is_relative_drops_never_negative_over_the_largest():
    graph = skill_graph(np.array([4.0, 2.0]), np.array([[2.0, 2.2], [3.0, 1.5]]))
    assert graph == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert skill_graph(np.ones(2), np.full((2, 2), 1.5)) == pytest.approx(np.zeros((2, 2)))


def test_doremi_is_the_published_vector_and_a_negative_excess_does_not_count():
    excess = np.array([0.5, 0.2, -0.1, 0.05])
    found = doremi(np.full(4, 0.25), excess, 1.0, 0.0)
    assert found == pytest.approx([0.335011, 0.248182, 0.203194, 0.213612], abs=1e-6)
    assert doremi(np.full(4, 0.25), excess, 1.0, 1.0) == pytest.approx(np.full(4, 0.25))


def test_aioli_recovers_the_mixing_matrix_exactly_and_moves_as_published():
    truth = np.array([[0.6, 0.1, 0.0], [0.2, 0.5, 0.1], [0.0, 0.1, 0.3]])
    trials = spiked(3, 0.75)
    assert trials[0] == pytest.approx([0.75, 0.125, 0.125])
    matrix = mixing_matrix(truth @ trials.T, trials.T)
    assert matrix == pytest.approx(truth)
    assert aioli(np.full(3, 1 / 3), matrix, 0.2) == pytest.approx([0.344434, 0.337614, 0.317953], abs=1e-6)
    assert normalized_matrix(np.array([[1.0, -1.0]])) == pytest.approx(np.array([[1.0, 0.0]]))
    assert normalized_matrix(np.zeros((2, 2))) == pytest.approx(np.full((2, 2), 0.25))


def test_odm_is_the_published_vector_and_always_explores():
    exploration = odm_exploration(3, 100, floor=0.0)
    assert exploration == pytest.approx(0.060515, abs=1e-6)
    found = odm(np.array([2.0, 3.0, 2.5]), 1 / 3, exploration)
    assert found == pytest.approx([0.28933, 0.37985, 0.33082], abs=1e-5)
    assert odm_exploration(3, 1) == 1 / 3
    assert odm_exploration(3, 10**9) == 0.03
    assert odm(np.array([0.0, 1e9]), 0.5, 0.03) == pytest.approx([0.03, 0.97])
    rewards = odm_reward(np.array([1.0, 1.0]), 1, 2.0, np.array([0.5, 0.25]), 0.9)
    assert rewards == pytest.approx([1.0, 0.9 + 0.1 * 2 / 0.25])
