"""How much of each source? Curves of the loss in one source's amount, best amounts under a total, amounts at a larger scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from methods.mixtures.simplex import minimize


@dataclass(frozen=True)
class Curve:
    """How the loss falls with one source's amount n: ``scale * n ** -exponent``, or ``-scale * ln n`` of exponent zero."""

    scale: float
    exponent: float

    def value(self, amount: float) -> float:
        """The part of the loss that this amount decides."""
        if self.exponent == 0:
            return -self.scale * float(np.log(amount))
        return self.scale * amount**-self.exponent

    def slope(self, amount: float) -> float:
        """Its derivative, never positive."""
        if self.exponent == 0:
            return -self.scale / amount
        return -self.scale * self.exponent * amount ** (-self.exponent - 1)


def source_curves(amounts: np.ndarray, losses: np.ndarray, factor: float) -> list[Curve]:
    """A curve per source from losses of `methods.mixtures.designs.one_at_a_time`: base, then less and more of each, (2k + 1,).

    Through three points in geometric distance a power law passes exactly: ``factor ** exponent`` is the ratio of the two
    drops. Where the drops do not shrink the curve is a logarithm through the outer points, and flat where the loss rises.
    """
    found: list[Curve] = []
    for i, amount in enumerate(amounts):
        less, base, more = float(losses[1 + 2 * i]), float(losses[0]), float(losses[2 + 2 * i])
        if not np.isfinite([less, base, more]).all():
            found.append(Curve(0.0, 0.0))
            continue
        first, second = less - base, base - more
        if first > second > 0:
            exponent = min(float(np.log(first / second) / np.log(factor)), 3.0)
            drop = (amount / factor) ** -exponent - amount**-exponent
            found.append(Curve(first / drop, exponent))
        else:
            found.append(Curve(max(0.0, (less - more) / (2 * float(np.log(factor)))), 0.0))
    return found


def best_amounts(curves: Sequence[Curve], total: float, *, floor: float = 0.0) -> np.ndarray:
    """Amounts, (k,), that sum to ``total`` with the least summed curve; each at least ``floor`` of the total.

    Convex, so the minimum is exact. Equal amounts where no curve falls.
    """
    count = len(curves)
    if not any(curve.scale for curve in curves):
        return np.full(count, total / count)
    least = min(floor, 1 / count)
    free = 1 - least * count

    def objective(shares: np.ndarray) -> tuple[float, np.ndarray]:
        amounts = np.maximum((least + free * shares) * total, 1e-9)
        value = sum(curve.value(float(n)) for curve, n in zip(curves, amounts, strict=True))
        slope = np.array([curve.slope(float(n)) for curve, n in zip(curves, amounts, strict=True)])
        return value, slope * free * total

    shares = minimize(objective, np.full(count, 1 / count)).shares
    return (least + free * shares) * total


def extrapolated_amounts(small: np.ndarray, large: np.ndarray, total: float) -> np.ndarray:
    """Shares at ``total`` examples: ``N3 = N2 * N2 / N1`` source by source until ``total`` is reached or passed.

    The last step is shortened to end at the total. N1 = (30, 50, 20), N2 = (50, 80, 70) and a total of 456.33 give
    (.1826, .2805, .5369). Raises nothing: where the amounts do not grow (``total`` within the larger size) they stay.
    """
    growth = large / small
    if total <= large.sum() or growth.max() <= 1:
        return large / large.sum()

    def summed(steps: float) -> float:
        return float((large * growth**steps).sum())

    low, high = 0.0, 1.0
    while summed(high) < total and high < 64:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if summed(middle) < total else (low, middle)
    grown = large * growth**high
    return grown / grown.sum()
