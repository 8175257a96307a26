"""Shares that sum to one: projections onto the simplex with caps, multiplicative updates, and an exact convex minimum."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from methods.mixtures.rounding import water_fill
from schemas.errors import UsageError

#: Value and gradient, shape (k,), of what is to be minimized, at shares of shape (k,).
Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]

_TINY = 1e-300


@dataclass(frozen=True)
class Minimum:
    """Where an objective is smallest. ``gap`` bounds how far ``value`` is from the best one if the objective is convex."""

    shares: np.ndarray
    value: float
    gap: float
    steps: int


def softmax(logits: np.ndarray) -> np.ndarray:
    """``exp`` of the logits over its sum, shape (k,), float64; safe for any finite size."""
    powers = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits))
    return powers / powers.sum()


def exponentiated(shares: np.ndarray, signal: np.ndarray, rate: float) -> np.ndarray:
    """The multiplicative update ``shares * exp(rate * signal)``, normalized; a share of zero stays zero.

    Paper: Kivinen and Warmuth 1997, Exponentiated gradient, https://doi.org/10.1006/inco.1996.2612
    """
    start = np.asarray(shares, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return softmax(np.log(start / start.sum()) + rate * np.asarray(signal, dtype=np.float64))


def smoothed(shares: np.ndarray, uniform_share: float) -> np.ndarray:
    """The shares with ``uniform_share`` (0 to 1) of the whole spread evenly."""
    return (1 - uniform_share) * np.asarray(shares, dtype=np.float64) + uniform_share / len(shares)


def kl_divergence(shares: np.ndarray, prior: np.ndarray) -> float:
    """``sum p ln(p / prior)`` in nats, 0 for equal shares; infinite where p is positive and the prior is zero."""
    here = shares > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(shares[here] * np.log(shares[here] / prior[here])))


def within(shares: np.ndarray, caps: np.ndarray | None = None) -> np.ndarray:
    """The shares closest in KL divergence that sum to one with none above its cap: scaled up together, cut at the caps.

    Raises ``UsageError`` where the caps of the positive shares hold less than the whole.
    """
    if caps is None:
        return shares / shares.sum()
    filled = water_fill(shares.tolist(), 1.0, caps.tolist())
    if abs(filled.sum() - 1) > 1e-9:
        raise UsageError(f"caps that sum to {float(np.sum(caps)):.3g} leave no room for shares that sum to 1")
    return filled


def project(point: np.ndarray, caps: np.ndarray | None = None) -> np.ndarray:
    """The shares closest to ``point`` in Euclidean distance: ``clip(point - t, 0, cap)`` with the t that sums to one.

    Paper: Duchi et al. 2008, Efficient projections onto the l1-ball, https://doi.org/10.1145/1390156.1390191
    """
    limit = np.ones(len(point)) if caps is None else np.minimum(caps, 1.0)
    if limit.sum() < 1 - 1e-12:
        raise UsageError(f"caps that sum to {float(limit.sum()):.3g} leave no room for shares that sum to 1")
    low, high = float(np.min(point - limit)), float(np.max(point))
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(point - middle, 0, limit).sum() > 1:
            low = middle
        else:
            high = middle
    return np.clip(point - high, 0, limit)


def minimize(
    objective: Objective,
    start: np.ndarray,
    caps: np.ndarray | None = None,
    *,
    prior: np.ndarray | None = None,
    kl: float = 0.0,
    tolerance: float = 1e-9,
    max_steps: int = 20_000,
) -> Minimum:
    """The minimum of ``objective(p) + kl * KL(p || prior)`` over shares under caps, by mirror descent.

    Each step minimizes the objective's tangent, the KL term as it is, and the KL divergence from the shares so far, as
    far as a backtracking search allows, until the duality gap is below ``tolerance``: the global minimum where the
    objective is convex, a stationary point elsewhere. A source whose cap, start or prior is zero stays out.

    Paper: Beck and Teboulle 2003, Mirror descent, https://doi.org/10.1016/S0167-6377(02)00231-6
    """
    toward = np.asarray(start if prior is None else prior, dtype=np.float64)
    inside = (np.asarray(start) > 0) & ((toward > 0) | (kl == 0))
    inside &= np.ones(len(toward), dtype=bool) if caps is None else np.asarray(caps) > 0
    log_prior = np.where(inside, np.log(np.maximum(toward, _TINY)), 0.0)

    def whole(shares: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return slope + kl * (np.log(np.maximum(shares, _TINY)) - log_prior + 1) if kl else slope

    shares = within(np.where(inside, start, 0.0), caps)
    value, slope = objective(shares)
    gap = duality_gap(shares, whole(shares, slope), inside, caps)
    rate, taken = 1.0, 0
    for _ in range(max_steps):
        if gap <= tolerance or rate < 1e-14:
            break
        logits = np.log(np.maximum(shares, _TINY)) / rate + kl * log_prior - slope
        logits = np.where(inside, logits / (1 / rate + kl), -np.inf)
        trial = within(np.where(inside, np.maximum(np.exp(logits - logits.max()), _TINY), 0.0), caps)
        trial_value, trial_slope = objective(trial)
        # Curvature along the step, against that of the entropy: exact enough to go on where values differ by rounding.
        bend = float((trial_slope - slope) @ (trial - shares))
        if bend * rate <= kl_divergence(trial, shares) + kl_divergence(shares, trial) + 1e-18:
            shares, value, slope = trial, trial_value, trial_slope
            gap = duality_gap(shares, whole(shares, slope), inside, caps)
            rate *= 1.6
            taken += 1
        else:
            rate /= 2.0
    total = float(value) + (kl * kl_divergence(shares, toward) if kl else 0.0)
    return Minimum(shares, total, gap, taken)


def duality_gap(
    shares: np.ndarray, slope: np.ndarray, inside: np.ndarray | None = None, caps: np.ndarray | None = None
) -> float:
    """``max over shares s of slope · (p - s)``: at least the distance to the minimum where the objective is convex."""
    left, best = 1.0, 0.0
    for i in np.argsort(slope, kind="stable"):
        if inside is not None and not inside[i]:
            continue
        give = left if caps is None else min(left, float(caps[i]))
        best += give * float(slope[i])
        left -= give
        if left <= 0:
            break
    return float(slope @ shares) - best
