"""How sure is a number? Intervals for shares and means, and rank agreement."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from schemas.errors import UsageError

#: Differences of a loss in nats per token that are nothing: figures are told to four digits, and sums are rounded.
NEGLIGIBLE = 5e-5


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds that hold it at the stated confidence."""

    estimate: float
    low: float
    high: float


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Interval of a share by Wilson's score; (nan, 0, 1) of no trials.

    Paper: Wilson 1927, Probable inference, https://doi.org/10.1080/01621459.1927.10502953. Unlike the textbook
    interval it stays inside 0 to 1 and says something for 0 of n.
    """
    if not 0 <= successes <= trials:
        raise UsageError(f"{successes} successes of {trials} trials is not a share")
    if not trials:
        return Interval(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    center = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == trials else min(1.0, center + half)
    return Interval(share, low, high)


def bootstrap(
    values: Sequence[float] | np.ndarray,
    *,
    rng: np.random.Generator,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    samples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic, by default the mean.

    ``statistic`` maps resamples, shape (rows, len(values)), to one number per row. Raises ``UsageError`` for no values.
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        raise UsageError("an interval needs at least one value")
    measure = statistic or _means
    found = np.concatenate(
        [
            measure(data[rng.integers(0, len(data), size=(rows, len(data)))])
            for rows in _blocks(samples, max(1, 4_000_000 // len(data)))
        ]
    )
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(measure(data[None, :])[0]), float(low), float(high))


def paired_bootstrap(
    ours: Sequence[float] | np.ndarray,
    theirs: Sequence[float] | np.ndarray,
    *,
    rng: np.random.Generator,
    samples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the mean of ``ours - theirs`` over the same examples: does not hold 0 where the change is real."""
    if len(ours) != len(theirs):
        raise UsageError(f"a paired comparison needs equal lengths; got {len(ours)} and {len(theirs)}")
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    return bootstrap(difference, rng=rng, samples=samples, confidence=confidence)


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Rank correlation, -1 to 1, ties at their mean rank; nan where one side is constant."""
    a, b = mean_ranks(first), mean_ranks(second)
    if len(a) != len(b) or len(a) < 2 or not a.std() or not b.std():
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def mean_ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Ranks from 1 in ascending order, float64; equal values share the mean of their places."""
    data = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(data, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _means(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=1)


def _blocks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
