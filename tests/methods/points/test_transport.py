"""Optimal transport against exact answers: the specification's vector, a linear programme, finite differences, toys."""

import numpy as np
import pytest

from methods.points.transport import calibrated_gradient, extended, sinkhorn, squared_distances
from methods.rank.got_d import got_gradient

X = np.array([[0.0], [1.0], [2.0], [10.0]], dtype=np.float32)
Y = np.array([[0.0], [2.0], [3.0]], dtype=np.float32)
EXACT = (-16.3333, -15.0, -16.3333, 47.6667)


def value(cost: np.ndarray, epsilon: float) -> float:
    duals = sinkhorn(cost, epsilon, rounds=4000, tolerance=1e-7)
    plan = np.exp((duals.source[:, None] + duals.target[None, :] - cost) / epsilon)
    assert plan.sum() == pytest.approx(1.0, abs=1e-4)
    assert np.allclose(plan.sum(1), 1 / len(cost), atol=1e-4)
    return float((plan * cost).sum())


def test_the_vector_of_the_specification() -> None:
    cost = squared_distances(X, Y)
    assert value(cost, 0.1) == pytest.approx(12.58333, abs=2e-3), "the exact value is 12.583333"
    duals = sinkhorn(cost, 0.02, rounds=8000, tolerance=1e-7)
    assert calibrated_gradient(duals.source) == pytest.approx((-16.3187, -15.0146, -16.3480, 47.6813), abs=0.02)


def test_the_dual_agrees_with_an_exact_linear_programme() -> None:
    linprog = pytest.importorskip("scipy.optimize").linprog
    rng = np.random.default_rng(0)
    rows, goals = rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    cost = squared_distances(rows, goals).astype(np.float64)
    n, m = cost.shape
    marginals = np.zeros((n + m, n * m))
    for i in range(n):
        marginals[i, i * m : (i + 1) * m] = 1
    for j in range(m):
        marginals[n + j, j::m] = 1
    exact = linprog(cost.ravel(), A_eq=marginals, b_eq=[1 / n] * n + [1 / m] * m).fun
    assert value(cost, 0.01) == pytest.approx(exact, rel=0.01)


def test_the_gradient_is_the_derivative_of_the_cost() -> None:
    rng = np.random.default_rng(1)
    rows, goals = rng.normal(size=(8, 2)), rng.normal(size=(6, 2))
    cost = squared_distances(rows.astype(np.float32), goals.astype(np.float32)).astype(np.float64)
    epsilon = 0.5

    def regularized(mass: np.ndarray) -> float:
        f, g = np.zeros(len(mass)), np.zeros(cost.shape[1])
        for _ in range(3000):
            g = -epsilon * np.log((mass[:, None] * np.exp((f[:, None] - cost) / epsilon)).sum(0))
            f = -epsilon * np.log((np.exp((g[None, :] - cost) / epsilon) / cost.shape[1]).sum(1))
        return float(mass @ f + g.mean())

    gradient = calibrated_gradient(sinkhorn(cost, epsilon, rounds=2000, tolerance=1e-8).source)
    uniform, step = np.full(8, 1 / 8), 1e-5
    for i in range(8):
        moved = uniform - step / 7
        moved[i] = uniform[i] + step
        assert (regularized(moved) - regularized(uniform)) / step == pytest.approx(gradient[i], abs=5e-3)


def test_a_constant_shift_changes_nothing_and_one_point_has_no_gradient() -> None:
    potential = np.array([0.0, 1.0, 0.0, 48.0])
    assert calibrated_gradient(potential) == pytest.approx(EXACT, abs=1e-4)
    assert calibrated_gradient(potential + 7.5) == pytest.approx(EXACT, abs=1e-4)
    assert calibrated_gradient(np.array([3.0])).tolist() == [0.0]


def test_the_extension_continues_the_solved_potential() -> None:
    rng = np.random.default_rng(2)
    rows, goals = rng.normal(size=(60, 4)).astype(np.float32), rng.normal(size=(40, 4)).astype(np.float32)
    duals = sinkhorn(squared_distances(rows, goals), 0.5, rounds=3000, tolerance=1e-7)
    cost = squared_distances(rows, goals)
    (longer,), nearest = extended(rows, goals, duals.target[None], 0.5)
    assert nearest == pytest.approx(cost.min(axis=1))
    assert calibrated_gradient(longer) == pytest.approx(calibrated_gradient(duals.source), abs=1e-3)


@pytest.mark.parametrize("apart", [0.1, 40.0])
def test_draws_that_share_a_kernel_get_what_each_gets_alone(apart: float) -> None:
    draw = np.random.default_rng(4)
    rows, goals = draw.normal(size=(30, 4)).astype(np.float32), draw.normal(size=(20, 4)).astype(np.float32)
    potentials = draw.normal(size=(3, 20)) * apart + np.array([[0.0], [5.0], [-9.0]])
    together, _ = extended(rows, goals, potentials, 0.2)
    cost = squared_distances(rows, goals).astype(np.float64)
    scaled = (potentials[:, None, :] - cost[None]) / 0.2
    top = scaled.max(axis=2)
    direct = -0.2 * (top + np.log(np.exp(scaled - top[:, :, None]).mean(axis=2)))
    assert together == pytest.approx(direct, abs=1e-3)


def test_rare_examples_of_a_wanted_kind_come_before_plenty_of_the_other() -> None:
    # 198 cats, 2 dogs, and a target that is half dogs: the nearest neighbours of the target are cats and dogs alike,
    # but only more dogs bring the pool nearer to it.
    rng = np.random.default_rng(3)
    cats, dogs = rng.normal(0, 0.3, (198, 2)), rng.normal(0, 0.3, (2, 2)) + np.array([4.0, 0.0])
    rows = np.concatenate([cats, dogs]).astype(np.float32)
    goals = np.concatenate([rng.normal(0, 0.3, (25, 2)), rng.normal(0, 0.3, (25, 2)) + np.array([4.0, 0.0])]).astype(
        np.float32
    )
    gradient, _ = got_gradient(rows, goals, [np.arange(200)], epsilon=0.02)
    assert set(np.argsort(gradient)[:2].tolist()) == {198, 199}
    assert gradient[:198].mean() > 0
    twin = np.concatenate([rows, rows[:1]])
    again, _ = got_gradient(twin, goals, [np.arange(201)], epsilon=0.02)
    assert again[0] == pytest.approx(again[-1]), "copies of a row are worth the same"


def test_identical_points_have_no_gradient() -> None:
    rows = np.ones((5, 3), dtype=np.float32)
    assert got_gradient(rows, rows[:2], [np.arange(5)], 0.05)[0].tolist() == [0.0] * 5
