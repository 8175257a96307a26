"""What was found about a mixture: is it really better than uniform and proportional, and one sentence that says so."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from methods.stats import NEGLIGIBLE, Interval
from schemas.errors import UsageError

#: Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom; beyond, 1.96 + 2.4 / df is within .002.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
        2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip


def student_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean of a few values with its 95 % interval by Student's t: for 3 to 30 seeds, where a bootstrap is too sure.

    Of one value the interval is infinite. Raises ``UsageError`` for none.
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        raise UsageError("an interval needs at least one value")
    mean = float(data.mean())
    if len(data) == 1:
        return Interval(mean, -math.inf, math.inf)
    free = len(data) - 1
    wide = (_T95[free - 1] if free <= len(_T95) else 1.96 + 2.4 / free) * float(data.std(ddof=1)) / math.sqrt(len(data))
    return Interval(mean, mean - wide, mean + wide)


@dataclass(frozen=True)
class Compared:
    """The proposed mixture beside another one over the same seeds; ``difference`` is proposed minus other, in nats."""

    name: str
    loss: Interval
    difference: Interval

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``no different`` where the interval of the difference holds zero, or next to it."""
        if self.difference.high < -NEGLIGIBLE:
            return "better"
        return "worse" if self.difference.low > NEGLIGIBLE else "no different"


def compared(losses: Mapping[str, Sequence[float | None]], proposal: str = "proposed") -> list[Compared]:
    """Each other mixture against the proposed one, over the seeds at which both have a loss."""
    found: list[Compared] = []
    for name, theirs in losses.items():
        if name == proposal:
            continue
        both = [(a, b) for a, b in zip(losses[proposal], theirs, strict=True) if a is not None and b is not None]
        if both:
            ours, others = np.array([a for a, _ in both]), np.array([b for _, b in both])
            found.append(Compared(name, student_interval(others), student_interval(ours - others)))
    return found


def sentence(ours: Sequence[float | None], others: Sequence[Compared]) -> str:
    """What the confirmation runs say, in words."""
    known = [x for x in ours if x is not None]
    if not known:
        return "the proposed mixture's proxies ended without a finite loss; lower the tuner's learning_rate"
    if not others:
        return "the mixture was not measured against others"
    told: list[str] = []
    for one in others:
        gain = one.difference
        bounds = "" if math.isinf(gain.low) else f", 95 % {gain.low:+.4f} to {gain.high:+.4f}"
        than = f"no different from {one.name}" if one.verdict == "no different" else f"{one.verdict} than {one.name}"
        told.append(f"{than} ({one.loss.estimate:.4f}; {gain.estimate:+.4f}{bounds})")
    return f"measured loss {float(np.mean(known)):.4f} over {len(known)} seeds: " + "; ".join(told)


def plain_interval(interval: Interval) -> dict[str, float | None]:
    """As JSON; an infinite bound is null."""
    bounds = {"low": interval.low, "high": interval.high}
    return {"estimate": interval.estimate} | {k: v if math.isfinite(v) else None for k, v in bounds.items()}


def plain_comparison(one: Compared) -> dict[str, Any]:
    """As JSON, a row of a table: ``difference`` is the proposed mixture's loss minus the other's, ``low`` to ``high``."""
    gain = plain_interval(one.difference)
    return {
        "against": one.name,
        "verdict": one.verdict,
        "loss": one.loss.estimate,
        "difference": gain["estimate"],
        "low": gain["low"],
        "high": gain["high"],
    }


def share_intervals(draws: np.ndarray, names: Sequence[str]) -> dict[str, list[float]]:
    """2.5th and 97.5th percentile of each source's weight over refits or sessions, (n, k); empty for fewer than two."""
    if len(draws) < 2:
        return {}
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return {name: [float(a), float(b)] for name, a, b in zip(names, low, high, strict=True)}
