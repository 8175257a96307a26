"""Entropic optimal transport between point clouds: Sinkhorn's dual, its extension to points that were not solved for."""

from dataclasses import dataclass

import numpy as np

from methods.parallel import in_order

_CELLS = 2_000_000  # of one block of costs: 8 MB, so that each of its passes finds it in the processor's cache
_SPREAD = 30.0  # in units of epsilon: potentials this near to their mean share one kernel without underflow


@dataclass(frozen=True)
class Duals:
    """Potentials of source and target (float64) for uniform masses, and the marginal error (L1) where the solver stopped."""

    source: np.ndarray
    target: np.ndarray
    error: float
    rounds: int


def squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared Euclidean costs, float32, (len(rows), len(others)), never negative."""
    cost = -2.0 * (rows.astype(np.float32) @ others.T.astype(np.float32))
    cost += (rows.astype(np.float32) ** 2).sum(1)[:, None] + (others.astype(np.float32) ** 2).sum(1)[None, :]
    return np.maximum(cost, 0.0, out=cost)


def sinkhorn(cost: np.ndarray, epsilon: float, *, rounds: int = 500, tolerance: float = 1e-4) -> Duals:
    """Potentials of the entropic problem with uniform masses.

    Sinkhorn's iterations on the kernel with the potentials absorbed into it whenever they grow, so that small
    ``epsilon`` neither overflows nor underflows. Paper: Schmitzer 2019, https://arxiv.org/abs/1610.06519, and Cuturi
    2013, https://arxiv.org/abs/1306.0895. ``tolerance`` is of the L1 error of the source's marginal.
    """
    n, m = cost.shape
    f = np.zeros(n)
    # Start from the hard c-transform: every row and column of the kernel then holds a 1.
    g = cost.min(axis=0).astype(np.float64)
    f = (cost - g[None, :]).min(axis=1).astype(np.float64)
    error, done = np.inf, 0
    kernel = np.empty(cost.shape, dtype=np.float32)
    while done < rounds and error > tolerance:
        _absorb(cost, f, g, epsilon, kernel)
        u, v = np.ones(n), np.ones(m)
        for _ in range(20):
            v = 1.0 / (m * np.maximum(kernel.T @ u.astype(np.float32), 1e-30))
            u = 1.0 / (n * np.maximum(kernel @ v.astype(np.float32), 1e-30))
            done += 1
            if max(np.abs(np.log(u)).max(), np.abs(np.log(v)).max()) > 20:
                break
        error = float(np.abs(v * (kernel.T @ u.astype(np.float32)) - 1.0 / m).sum())
        f += epsilon * np.log(u)
        g += epsilon * np.log(v)
    return Duals(f, g, error, done)


def _absorb(cost: np.ndarray, f: np.ndarray, g: np.ndarray, epsilon: float, kernel: np.ndarray) -> None:
    """Fill ``kernel`` with ``exp((f + g - cost) / eps)``; potentials float64, a block of rows at a time."""
    size = max(1, _CELLS // max(1, cost.shape[1]))
    for start in range(0, len(cost), size):
        here = slice(start, start + size)
        np.exp((f[here, None] + g[None, :] - cost[here]) / epsilon, out=kernel[here], casting="same_kind")


def extended(
    rows: np.ndarray, others: np.ndarray, potentials: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Source potentials at any points from the target's (draws, others): ``-eps log mean exp((g - C) / eps)``, streamed.

    Returns them (float64, (draws, rows)) and each row's cost to the nearest of ``others``. With ``sinkhorn``'s convention
    (kernel times masses) they continue the solved source potentials, up to the constant ``eps log n`` that a calibrated
    gradient does not see. Draws that agree within 30 epsilon share one exponential of their mean per cell: the rest is a
    product with ``exp((g - mean) / eps)``.
    """
    shift = potentials.mean(axis=1, keepdims=True)
    level = potentials - shift
    mean = level.mean(axis=0)
    if np.abs(level - mean).max(initial=0.0) > _SPREAD * epsilon and len(potentials) > 1:
        alone = [extended(rows, others, potentials[k : k + 1], epsilon) for k in range(len(potentials))]
        return np.concatenate([found for found, _ in alone]), alone[0][1]
    weights = np.exp((level - mean) / epsilon).T.astype(np.float32) / np.float32(len(others))
    bias = (mean / epsilon).astype(np.float32)
    size = max(1, _CELLS // max(1, len(others)))

    def block(start: int) -> tuple[int, np.ndarray, np.ndarray]:
        cost = squared_distances(rows[start : start + size], others)
        nearest = cost.min(axis=1)
        cost *= np.float32(-1.0 / epsilon)
        cost += bias
        top = cost.max(axis=1)
        cost -= top[:, None]
        np.exp(cost, out=cost)
        return start, -epsilon * (top[:, None] + np.log((cost @ weights).astype(np.float64))), nearest

    found, near = np.empty((len(potentials), len(rows))), np.empty(len(rows))
    for start, values, nearest in in_order(block, range(0, len(rows), size)):
        found[:, start : start + len(values)] = values.T
        near[start : start + len(values)] = nearest
    return found - shift, near


def calibrated_gradient(potential: np.ndarray) -> np.ndarray:
    """Derivative of the transport cost when mass moves to each point, uniformly from all others.

    >>> [round(float(g), 4) for g in calibrated_gradient(np.array([0.0, 1.0, 0.0, 48.0]))]
    [-16.3333, -15.0, -16.3333, 47.6667]
    """
    n = len(potential)
    if n < 2:
        return np.zeros(n)
    return potential * (1 + 1 / (n - 1)) - potential.sum() / (n - 1)
