"""Entropic optimal transport between point clouds: Sinkhorn's dual, its extension to points that were not solved for."""

from dataclasses import dataclass

import numpy as np

_CELLS = 16_000_000  # of one block of costs: 64 MB


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
    while done < rounds and error > tolerance:
        kernel = np.exp((f[:, None] + g[None, :] - cost) / epsilon, dtype=np.float32)
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


def extended(rows: np.ndarray, others: np.ndarray, potential: np.ndarray, epsilon: float) -> np.ndarray:
    """The source potential at any points, from the target's: ``-eps log mean exp((g - C) / eps)``, float64, streamed.

    With ``sinkhorn``'s convention (kernel times masses) it continues the solved source potential, up to the constant
    ``eps log n`` that a calibrated gradient does not see.
    """
    found = np.empty(len(rows))
    size = max(1, _CELLS // max(1, len(others)))
    for start in range(0, len(rows), size):
        block = (potential[None, :] - squared_distances(rows[start : start + size], others)) / epsilon
        top = block.max(axis=1)
        found[start : start + size] = -epsilon * (top + np.log(np.exp(block - top[:, None]).mean(axis=1)))
    return found


def calibrated_gradient(potential: np.ndarray) -> np.ndarray:
    """Derivative of the transport cost when mass moves to each point, uniformly from all others.

    >>> [round(float(g), 4) for g in calibrated_gradient(np.array([0.0, 1.0, 0.0, 48.0]))]
    [-16.3333, -15.0, -16.3333, 47.6667]
    """
    n = len(potential)
    if n < 2:
        return np.zeros(n)
    return potential * (1 + 1 / (n - 1)) - potential.sum() / (n - 1)
