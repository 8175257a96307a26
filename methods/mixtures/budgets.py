"""How to spend a budget on labels: cheap or good ones, demonstrations or preferences. Curves fitted to pilots, with intervals.

Each answer names what was fitted, what it would buy, and how sure the pilots make it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from methods.mixtures.laws_fit import ridge_fit, robust_fit
from schemas.errors import UsageError


@dataclass(frozen=True)
class Allocation:
    """What to buy: amounts by kind, the loss or score that is predicted with its 95 % interval, and a plain sentence.

    ``interval`` has the bounds of the first kind's share of the money over refits on resampled pilots.
    """

    amounts: Mapping[str, int]
    predicted: float
    low: float
    high: float
    interval: tuple[float, float]
    says: str
    law: Mapping[str, float]


@dataclass(frozen=True)
class LabelLaw:
    """``floor + scale * (1 + strong + worth * weak ** decline) ** -exponent``: a weak label counts as ``worth`` strong ones,
    and less the more there are where ``decline`` is below one.
    """

    floor: float
    scale: float
    exponent: float
    worth: float
    decline: float = 1.0

    def __call__(self, weak: np.ndarray | float, strong: np.ndarray | float) -> np.ndarray:
        """The loss of a model trained on so many labels."""
        weak, strong = np.asarray(weak, dtype=np.float64), np.asarray(strong, dtype=np.float64)
        return self.floor + self.scale * (1 + strong + self.worth * weak**self.decline) ** -self.exponent


def fit_label_law(weak: np.ndarray, strong: np.ndarray, losses: np.ndarray, near: LabelLaw | None = None) -> LabelLaw:
    """The law through pilots: numbers of weak and strong labels, (n,), and the losses they led to.

    Raises ``UsageError`` for fewer than six pilots, or pilots that never vary one of the kinds.
    """
    weak, strong, losses = (np.asarray(x, dtype=np.float64) for x in (weak, strong, losses))
    if len(losses) < 6 or len(np.unique(weak)) < 2 or len(np.unique(strong)) < 2 or not np.isfinite(losses).all():
        raise UsageError(
            "a law of labels needs six pilots with finite losses at least, in which both weak and strong labels vary"
        )
    if (weak < 0).any() or (strong < 0).any():
        raise UsageError("numbers of labels are not negative")
    size = float(np.log1p(weak + strong).mean())
    spread = max(float(np.ptp(losses)), 1e-9)

    def residuals(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        base = _predicted(theta, weak, strong, size)
        slopes = np.empty((len(losses), len(theta)))
        for i in range(len(theta)):
            moved = theta.copy()
            moved[i] += 1e-6
            slopes[:, i] = (_predicted(moved, weak, strong, size) - base) / 1e-6
        return base - losses, slopes

    starts = [_packed(near, size)] if near else [
        np.array([losses.min() - 0.1 * spread, np.log(spread), raw, worth, 2.0]) for raw in (-1.5, 0.0) for worth in (-3.0, 0.0)
    ]  # fmt: skip
    found = robust_fit(residuals, starts, delta=0.5 * spread, ridge=np.array([0, 0, 1e-7, 1e-7, 1e-7]), max_steps=400)
    return _law(found.parameters, size)


def allocate_labels(
    pilots: Sequence[tuple[float, float, float]],
    *,
    budget: float,
    weak_cost: float,
    strong_cost: float,
    rng: np.random.Generator,
    resamples: int = 200,
) -> Allocation:
    """How many weak and strong labels of these unit costs to buy, from pilots (weak, strong, loss).

    The optimum of the fitted law over every affordable number of strong labels, the rest spent on weak ones. Raises
    ``UsageError`` for costs or budgets that are not positive, and where the pilots cannot carry the law.
    """
    if not (budget > 0 and weak_cost > 0 and strong_cost > 0 and np.isfinite([budget, weak_cost, strong_cost]).all()):
        raise UsageError("budget and costs of labels are positive numbers")
    rows = np.array(pilots, dtype=np.float64).reshape(-1, 3)
    law = fit_label_law(rows[:, 0], rows[:, 1], rows[:, 2])
    weak, strong = cheapest(law, budget, weak_cost, strong_cost)
    shares: list[float] = []
    said: list[float] = []
    for _ in range(resamples):
        drawn = rows[rng.integers(0, len(rows), len(rows))]
        try:
            again = fit_label_law(drawn[:, 0], drawn[:, 1], drawn[:, 2], near=law)
        except UsageError:
            continue  # a draw in which one kind never varies says nothing about it
        mix = cheapest(again, budget, weak_cost, strong_cost)
        shares.append(mix[0] * weak_cost / budget)
        said.append(float(again(weak, strong)))
    low, high, bounds = _bounds(said, shares, float(law(weak, strong)))
    share = weak * weak_cost / budget
    kind = "quantity" if share > 0.95 else "quality" if share < 0.05 else "both"
    words = {
        "quantity": "quantity decides: buy weak labels",
        "quality": "quality decides: buy strong labels",
        "both": "both count: buy some of each",
    }[kind]
    return Allocation(
        {"weak": weak, "strong": strong}, float(law(weak, strong)), low, high, bounds,
        f"{words}; a weak label is worth {law.worth:.2f} strong ones at a {strong_cost / weak_cost:.3g} times lower price; "
        f"{100 * share:.0f} % of the money on weak labels (95 % {100 * bounds[0]:.0f} to {100 * bounds[1]:.0f})",
        {"floor": law.floor, "scale": law.scale, "exponent": law.exponent, "worth": law.worth, "decline": law.decline},
    )  # fmt: skip


def cheapest(law: LabelLaw, budget: float, weak_cost: float, strong_cost: float) -> tuple[int, int]:
    """(weak, strong) of least loss among all that the budget pays for; of equals the one with more strong labels."""
    most = int(budget / strong_cost + 1e-9)
    strong = np.unique(np.linspace(0, most, min(most, 100_000) + 1).astype(np.int64))
    weak = np.floor((budget - strong * strong_cost) / weak_cost + 1e-9).clip(0)
    losses = law(weak, strong)
    best = int(np.flatnonzero(losses <= losses.min() + 1e-12)[-1])
    return int(weak[best]), int(strong[best])


def allocate_preferences(
    budget: float,
    *,
    cost_ratio: float,
    pilots: Sequence[tuple[float, float]] = (),
    rng: np.random.Generator,
    resamples: int = 500,
) -> Allocation:
    """How much of a budget (in costs of one demonstration) goes to demonstrations, the rest to preference pairs.

    ``cost_ratio`` is the price of a pair over that of a demonstration. Pilots are (share of the money on demonstrations,
    score, higher is better), any number of seeds each; the score is fitted by ``a + b s + c s^2 + d sqrt(s)`` with the
    last three ridged. Without pilots, the rule of Raghavendra et al. 2025: demonstrations alone below 1,000, then a share
    that falls to a tenth, which is enough to spare the cold start.

    Paper: Raghavendra et al. 2025, Balancing the budget, https://arxiv.org/abs/2502.11284. Raises ``UsageError`` for a
    budget or a ratio that is not positive, shares beyond 0 to 1, and pilots at fewer than four shares.
    """
    if not (budget > 0 and cost_ratio > 0 and np.isfinite([budget, cost_ratio]).all()):
        raise UsageError("budget and cost ratio are positive numbers")
    if not len(pilots):
        share = 1.0 if budget < 1000 else max(0.1, min(1.0, 1000 / budget))
        words = f"rule of thumb, nothing measured: {100 * share:.0f} % of the money on demonstrations"
        return Allocation(
            _bought(share, budget, cost_ratio), float("nan"), float("nan"), float("nan"), (0, 1), words, {}
        )
    shares, scores = np.array(pilots, dtype=np.float64).reshape(-1, 2).T
    different = np.unique(shares)
    if (shares < 0).any() or (shares > 1).any() or not np.isfinite(scores).all() or len(different) < 4:
        raise UsageError(
            "pilots need finite scores at four shares between 0 and 1 at least; 0, .1, .25, .5, 1 is a start"
        )
    grid = np.linspace(0, 1, 101)
    curve = _score_curve(shares, scores)
    best = int(np.argmax(_features(grid) @ curve))
    peaks: list[float] = []
    said: list[float] = []
    for _ in range(resamples):
        # Within each share, so that every refit sees the whole range.
        drawn = np.concatenate([rng.choice(np.flatnonzero(shares == s), int((shares == s).sum())) for s in different])
        noisy = scores[drawn] + _residual_noise(shares, scores, curve, rng)
        again = _features(grid) @ _score_curve(shares[drawn], noisy)
        peaks.append(float(grid[int(np.argmax(again))]))
        said.append(float(again[best]))
    value = float(_features(grid[best : best + 1])[0] @ curve)
    low, high, bounds = _bounds(said, peaks, value)
    share = float(grid[best])
    return Allocation(
        _bought(share, budget, cost_ratio), value, low, high, bounds,
        f"{100 * share:.0f} % of the money on demonstrations (95 % {100 * bounds[0]:.0f} to {100 * bounds[1]:.0f}), the rest "
        f"on preference pairs; predicted score {value:.4g}",
        dict(zip(("constant", "share", "square", "root"), curve.tolist(), strict=True)),
    )  # fmt: skip


def _bought(share: float, budget: float, cost_ratio: float) -> dict[str, int]:
    return {"demonstrations": int(share * budget + 1e-9), "pairs": int((1 - share) * budget / cost_ratio + 1e-9)}


def _features(shares: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(shares), shares, shares**2, np.sqrt(shares)], axis=1)


def _score_curve(shares: np.ndarray, scores: np.ndarray) -> np.ndarray:
    penalized = np.array([False, True, True, True])
    return ridge_fit(_features(shares), scores, penalized, [1e-8, 1e-6, 1e-4, 1e-3]).coefficients


def _residual_noise(
    shares: np.ndarray, scores: np.ndarray, curve: np.ndarray, rng: np.random.Generator
) -> np.ndarray | float:
    """Noise for shares that were measured once only, the size of what the curve leaves over; none where seeds show it."""
    if len(np.unique(shares)) < len(shares):
        return 0.0
    left = scores - _features(shares) @ curve
    free = max(1, len(scores) - 4)
    return rng.normal(0.0, float(np.sqrt((left**2).sum() / free)), len(scores))


def _bounds(said: Sequence[float], shares: Sequence[float], value: float) -> tuple[float, float, tuple[float, float]]:
    if len(said) < 2:
        return value, value, (0.0, 1.0)
    low, high = np.quantile(said, [0.025, 0.975])
    first, last = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high), (float(first), float(last))


def _law(theta: np.ndarray, size: float) -> LabelLaw:
    floor, log_scale, raw, raw_worth, raw_decline = (float(x) for x in theta)
    exponent = 0.02 + 1.98 / (1 + np.exp(-raw))
    return LabelLaw(
        floor, float(np.exp(min(log_scale, 50) + exponent * size)), float(exponent), float(np.exp(min(raw_worth, 5.0))),
        float(0.2 + 0.8 / (1 + np.exp(-raw_decline))),
    )  # fmt: skip


def _packed(law: LabelLaw, size: float) -> np.ndarray:
    def logit(share: float) -> float:
        inside = float(np.clip(share, 1e-6, 1 - 1e-6))
        return float(np.log(inside / (1 - inside)))

    return np.array([
        law.floor, np.log(max(law.scale, 1e-300)) - law.exponent * size, logit((law.exponent - 0.02) / 1.98),
        np.log(max(law.worth, 1e-9)), logit((law.decline - 0.2) / 0.8),
    ])  # fmt: skip


def _predicted(theta: np.ndarray, weak: np.ndarray, strong: np.ndarray, size: float) -> np.ndarray:
    return _law(theta, size)(weak, strong)


def plain(allocation: Allocation) -> dict[str, Any]:
    """As JSON; what is not known is null."""

    def known(value: float) -> float | None:
        return value if np.isfinite(value) else None

    return {
        "amounts": dict(allocation.amounts),
        "predicted": known(allocation.predicted),
        "predicted_interval": [known(allocation.low), known(allocation.high)],
        "share_interval": list(allocation.interval),
        "law": dict(allocation.law),
        "says": allocation.says,
    }
