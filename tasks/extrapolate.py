"""From a few calls to all of them: totals of calls, tokens and money with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from pydantic import BaseModel, ConfigDict


class Range(BaseModel):
    """A total with the bounds that should hold it in 95 of 100 pilots; ``high`` is None where nothing bounds it."""

    model_config = ConfigDict(frozen=True)

    estimate: float
    low: float
    high: float | None


@dataclass
class Kind:
    """Calls of one kind (drawn alike): how many were asked for, and what each distinct prompt cost in all.

    ``values`` are cluster totals: replies to one prompt cost alike, so they count as one observation.
    """

    asked: int = 0
    answered: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)  # prompt → tokens and USD of its calls

    def totals(self, what: int) -> list[float]:
        """One number per distinct prompt."""
        return [value[what] for value in self.values.values()]


def scaled_up(kinds: Sequence[Kind], what: int, rows: int, whole: int, *, confidence: float = 0.95) -> Range:
    """The total over ``whole`` rows of what the calls made on ``rows`` rows, drawn at random, cost.

    Each kind is expanded by the share of rows; its interval has the spread between prompts, by Student's t with
    Johnson's correction for skewed costs, and the chance with which a row leads to such a call at all. The kinds' widths
    are added, not squared first: a long row is long in every kind.

    Paper: Johnson 1978, Modified t tests and confidence intervals for asymmetrical populations,
    https://doi.org/10.1080/01621459.1978.10480051.
    """
    factor = whole / max(rows, 1)
    missing = max(0.0, 1.0 - rows / max(whole, 1))  # nothing is uncertain where every row was looked at
    estimate = below = above = 0.0
    bounded = True
    for kind in kinds:
        seen = kind.totals(what)
        if not seen:
            continue
        share = kind.asked / max(kind.answered, 1)
        clusters = len(seen) * share
        mean, variance, third = _moments(seen)
        estimate += factor * mean * clusters
        if missing == 0.0 and share == 1.0:
            continue
        if len(seen) < 2:
            bounded = False
            continue
        t = student_quantile(0.5 + confidence / 2, len(seen) - 1)
        per_row = clusters / max(rows, 1)
        spread = clusters * clusters * variance / len(seen) + mean * mean * _count_variance(clusters, rows, per_row)
        width = factor * t * math.sqrt(spread * missing) if missing else factor * t * math.sqrt(spread)
        skew = factor * clusters * third / (6 * variance * len(seen)) if variance > 0 else 0.0
        below += max(0.0, width - skew)
        above += width + max(0.0, skew) * (1 + t * t)
    return Range(estimate=estimate, low=max(0.0, estimate - below), high=estimate + above if bounded else None)


def until_target(spent: Sequence[float], accepted: int, wanted: int, *, confidence: float = 0.95) -> Range:
    """The total of a search that goes on until ``wanted`` are accepted, when ``spent`` (per call) found ``accepted``.

    How many are accepted is taken for a Poisson count (exact interval by the gamma quantiles of Wilson and Hilferty).
    """
    total = sum(spent)
    low, high = poisson_interval(accepted, confidence)
    mean, variance, _ = _moments(spent) if spent else (0.0, 0.0, 0.0)
    wobble = 0.0 if len(spent) < 2 or mean == 0 else math.sqrt(variance / len(spent)) / mean
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    best = total * wanted / accepted if accepted else math.inf
    return Range(
        estimate=best if accepted else total,
        low=max(total, total * wanted / high * max(0.0, 1 - z * wobble)),
        high=total * wanted / low * (1 + z * wobble) if low > 0 else None,
    )


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the mean behind a Poisson count.

    >>> low, high = poisson_interval(10)
    >>> abs(low - 4.795) < 0.05, abs(high - 18.39) < 0.05
    (True, True)
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)

    def gamma(shape: int, sign: int) -> float:
        return shape * (1 - 1 / (9 * shape) + sign * z / (3 * math.sqrt(shape))) ** 3

    return (gamma(count, -1) if count else 0.0), gamma(count + 1, 1)


def student_quantile(p: float, df: int) -> float:
    """Quantile of Student's t, p in (0.5, 1): exact for one and two degrees of freedom, else Hill's expansion.

    Paper: Hill 1970, Algorithm 396, https://doi.org/10.1145/355598.355600.

    >>> [round(student_quantile(0.975, df), 2) for df in (1, 2, 4, 9, 19)]
    [12.71, 4.3, 2.78, 2.26, 2.09]
    """
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:
        return 2 * (p - 0.5) * math.sqrt(2 / (1 - 4 * (p - 0.5) ** 2))
    tail = 2 * (1 - p)
    a = 1 / (df - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * df
    y = (d * tail) ** (2 / df)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(1 - p)
        y = x * x
        if df < 5:
            c += 0.3 * (df - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = ((1 / (((df + 6) / (df * y) - 0.089 * d - 0.822) * (df + 2) * 3) + 0.5 / (df + 4)) * y - 1) * (df + 1) / (
            df + 2
        ) + 1 / y
    return math.sqrt(df * y)


def _moments(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, variance (n - 1) and third central moment."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((v - mean) ** 2 for v in values) / (n - 1) if n > 1 else 0.0
    return mean, variance, sum((v - mean) ** 3 for v in values) / n


def _count_variance(clusters: float, rows: int, per_row: float) -> float:
    """How much the number of prompts may vary: none where each row has as many, else binomial or Poisson."""
    if abs(per_row - round(per_row)) < 1e-9:
        return 0.0
    return rows * per_row * (1 - per_row) if per_row < 1 else clusters
