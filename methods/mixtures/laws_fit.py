"""Fits curves to few noisy points: robust least squares from several starts, ridge with its own strength, power laws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import UsageError

#: Residuals, shape (n,), and their Jacobian, shape (n, parameters), at some parameters.
Residuals = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Fit:
    """Parameters and their cost: the sum of Huber losses, plus the ridge."""

    parameters: np.ndarray
    cost: float


def huber_cost(residuals: np.ndarray, delta: float) -> float:
    """Half squares up to ``delta``, lines beyond it, summed.

    Paper: Huber 1964, Robust estimation of a location parameter, https://doi.org/10.1214/aoms/1177703732
    """
    size = np.abs(residuals)
    return float(np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)).sum())


def robust_fit(
    residuals: Residuals,
    starts: Sequence[np.ndarray],
    *,
    delta: float,
    ridge: np.ndarray | float = 0.0,
    max_steps: int = 200,
) -> Fit:
    """The best Levenberg-Marquardt fit over several starts under Huber's loss; ``ridge`` pulls parameters to zero.

    Raises ``UsageError`` where no start leads anywhere (data that is not finite).
    """
    fits = [_descend(residuals, np.asarray(s, dtype=np.float64), delta, ridge, max_steps) for s in starts]
    known = [fit for fit in fits if np.isfinite(fit.cost)]
    if not known:
        raise UsageError("the law cannot be fitted: no start gives finite losses; look at the losses of the proxy runs")
    return min(known, key=lambda fit: fit.cost)


def _descend(residuals: Residuals, start: np.ndarray, delta: float, ridge: np.ndarray | float, max_steps: int) -> Fit:
    pull = np.broadcast_to(np.asarray(ridge, dtype=np.float64), start.shape)

    def cost_of(found: np.ndarray, parameters: np.ndarray) -> float:
        return huber_cost(found, delta) + 0.5 * float(pull @ parameters**2)

    here = start
    with np.errstate(over="ignore", invalid="ignore"):
        found, slopes = residuals(here)
        cost, damping = cost_of(found, here), 1e-3
        if not np.isfinite(cost):
            return Fit(here, np.inf)
        for _ in range(max_steps):
            # Huber's loss as reweighted squares: a residual beyond delta counts with delta over its size.
            weight = np.minimum(1.0, delta / np.maximum(np.abs(found), 1e-300))
            gradient = slopes.T @ (weight * found) + pull * here
            curvature = (slopes.T * weight) @ slopes + np.diag(pull)
            scale = np.diag(curvature) + 1e-12
            step = np.linalg.lstsq(curvature + damping * np.diag(scale), -gradient, rcond=None)[0]
            trial = here + step
            trial_found, trial_slopes = residuals(trial)
            trial_cost = cost_of(trial_found, trial)
            if np.isfinite(trial_cost) and trial_cost < cost:
                done = cost - trial_cost <= 1e-12 * max(cost, 1e-12)
                here, found, slopes, cost = trial, trial_found, trial_slopes, trial_cost
                damping = max(damping / 4, 1e-12)
                if done:
                    break
            else:
                damping *= 5
                if damping > 1e12:
                    break
    return Fit(here, cost)


@dataclass(frozen=True)
class RidgeFit:
    """Coefficients, the penalty that was chosen, and the mean squared error of leaving each row out."""

    coefficients: np.ndarray
    penalty: float
    left_out_error: float


def ridge_fit(
    features: np.ndarray, values: np.ndarray, penalized: np.ndarray, penalties: Sequence[float] | None = None
) -> RidgeFit:
    """Ridge regression whose penalty gives the smallest leave-one-out error (in closed form); no intercept.

    ``penalized``, shape (features,), says which coefficients are pulled to zero; the others only by 1e-10, so that
    collinear columns have an answer.
    """
    tried = penalties if penalties is not None else [10.0**power for power in range(-10, 3)]
    best: RidgeFit | None = None
    gram, right = features.T @ features, features.T @ values
    for penalty in tried:
        matrix = gram + np.diag(np.where(penalized, penalty, 1e-10) * len(values))
        solved = np.linalg.solve(matrix, right)
        leverage = np.einsum("ij,ji->i", features, np.linalg.solve(matrix, features.T))
        left_out = (values - features @ solved) / np.maximum(1 - leverage, 1e-9)
        error = float(np.mean(left_out**2))
        if best is None or error < best.left_out_error * (1 - 1e-9):
            best = RidgeFit(solved, float(penalty), error)
    assert best is not None
    return best


@dataclass(frozen=True)
class PowerLaw:
    """``floor + scale * n ** -exponent``: a loss that falls with the amount of data."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, amounts: np.ndarray | float) -> np.ndarray:
        """The losses at these amounts."""
        return self.floor + self.scale * np.asarray(amounts, dtype=np.float64) ** -self.exponent


def fit_power_law(amounts: np.ndarray, losses: np.ndarray, *, delta: float = 1e-3) -> PowerLaw:
    """The power law through (amount, loss) points, by Huber's loss; y = 2 + 5 n ** -.35 comes back to five digits.

    The exponent stays within 0.01 to 3. Raises ``UsageError`` for fewer than three different amounts, or amounts that are
    not positive.
    """
    amounts, losses = np.asarray(amounts, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if len(np.unique(amounts)) < 3 or (amounts <= 0).any() or not np.isfinite(losses).all():
        raise UsageError("a power law needs finite losses at three different positive amounts at least")
    center = float(np.exp(np.log(amounts).mean()))
    ratio = amounts / center

    def residuals(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        floor, log_scale, raw = theta
        exponent = _between(raw)
        term = np.exp(log_scale) * ratio**-exponent
        by_raw = -np.log(ratio) * term * (exponent - 0.01) * (1 - (exponent - 0.01) / 2.99)
        return floor + term - losses, np.stack([np.ones_like(term), term, by_raw], axis=1)

    starts: list[np.ndarray] = []
    for exponent in (0.1, 0.35, 0.7, 1.5):
        columns = np.stack([np.ones_like(ratio), ratio**-exponent], axis=1)
        floor, scale = np.linalg.lstsq(columns, losses, rcond=None)[0]
        raw = np.log((exponent - 0.01) / (3.0 - exponent))
        starts.append(np.array([floor, np.log(max(scale, 1e-6)), raw]))
    floor, log_scale, raw = robust_fit(residuals, starts, delta=delta, max_steps=500).parameters
    exponent = float(_between(raw))
    return PowerLaw(float(floor), float(np.exp(log_scale) * center**exponent), exponent)


def _between(raw: float) -> float:
    """Any number as an exponent of 0.01 to 3."""
    return 0.01 + 2.99 / (1 + np.exp(-raw))
