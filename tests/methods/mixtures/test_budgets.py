"""Money for labels: the returned allocation is the one that enumeration finds on the planted law, and intervals are honest."""

import numpy as np
import pytest

from methods.mixtures.budgets import LabelLaw, allocate_labels, allocate_preferences, cheapest, fit_label_law, plain
from schemas.errors import UsageError
from tests.methods._pools import rng

GRID = [(w, s) for w in (0, 100, 400, 1600) for s in (0, 50, 200, 800)][1:]


def pilots(law: LabelLaw, noise: float = 0.0) -> list[tuple[float, float, float]]:
    error = rng(3).normal(0, noise, len(GRID))
    return [(w, s, float(law(w, s)) + e) for (w, s), e in zip(GRID, error, strict=True)]


def enumerated(law: LabelLaw, budget: float, weak_cost: float, strong_cost: float) -> float:
    """The least loss over every pair of whole numbers that the budget pays for."""
    return min(
        float(law(w, s))
        for s in range(int(budget / strong_cost) + 1)
        for w in range(int((budget - s * strong_cost) / weak_cost) + 1)
    )


@pytest.mark.parametrize(
    ("law", "weak_cost", "regime"),
    [
        (LabelLaw(0.2, 2.0, 0.4, (1 - 2 * 0.1) ** 2), 0.1, "quantity decides"),  # noise of .1: worth (1 - 2 rho)^2
        (LabelLaw(0.2, 2.0, 0.4, (1 - 2 * 0.4) ** 2), 0.2, "quality decides"),
        (LabelLaw(0.2, 2.0, 0.4, 2.0, 0.6), 0.1, "both count"),
    ],
    ids=["cheap and good", "cheap and bad", "declining"],
)
def test_the_allocation_is_the_enumerated_optimum(law: LabelLaw, weak_cost: float, regime: str):
    weak, strong = cheapest(law, 60, weak_cost, 1.0)
    assert float(law(weak, strong)) == pytest.approx(enumerated(law, 60, weak_cost, 1.0))
    assert weak * weak_cost + strong <= 60 + 1e-9
    found = allocate_labels(pilots(law), budget=60, weak_cost=weak_cost, strong_cost=1.0, rng=rng(), resamples=20)
    bought = float(law(found.amounts["weak"], found.amounts["strong"]))
    assert bought == pytest.approx(enumerated(law, 60, weak_cost, 1.0), abs=2e-3)
    assert found.says.startswith(regime)


def test_a_planted_law_comes_back_and_noise_widens_the_interval():
    law = LabelLaw(0.3, 3.0, 0.5, 0.36)
    found = fit_label_law(*np.array(pilots(law)).T)
    assert found.worth == pytest.approx(0.36, abs=0.03)
    assert found(500, 100) == pytest.approx(law(500, 100), abs=2e-3)
    clean, noisy = (
        allocate_labels(pilots(law, noise), budget=1000, weak_cost=0.5, strong_cost=1.0, rng=rng(), resamples=60)
        for noise in (0.0, 0.02)
    )
    assert noisy.high - noisy.low > clean.high - clean.low
    assert noisy.low <= noisy.predicted + 0.02
    assert set(plain(noisy)) >= {"amounts", "predicted_interval", "says"}


def test_demonstrations_and_pairs_follow_the_measured_peak():
    def score(share: float) -> float:
        return 0.5 + 0.3 * np.sqrt(share) - 0.3 * share

    grid = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 1.0)
    noise = rng(1)
    measured = [(s, score(s) + float(noise.normal(0, 0.003))) for s in grid for _ in range(3)]
    found = allocate_preferences(2000, cost_ratio=0.5, pilots=measured, rng=rng())
    assert found.amounts["demonstrations"] / 2000 == pytest.approx(0.25, abs=0.08), "0.3 sqrt(s) - 0.3 s peaks at 1/4"
    assert found.amounts["pairs"] == pytest.approx((2000 - found.amounts["demonstrations"]) / 0.5, abs=1)
    assert found.interval[0] <= 0.25 <= found.interval[1]
    assert found.low < found.predicted < found.high
    single = allocate_preferences(2000, cost_ratio=0.5, pilots=[(s, score(s)) for s in grid], rng=rng())
    assert single.amounts["demonstrations"] / 2000 == pytest.approx(0.25, abs=0.05)


def test_without_pilots_the_rule_is_named_as_one():
    small, large, huge = (allocate_preferences(n, cost_ratio=2.0, rng=rng()) for n in (500, 4000, 100_000))
    assert small.amounts == {"demonstrations": 500, "pairs": 0}
    assert large.amounts == {"demonstrations": 1000, "pairs": 1500}
    assert huge.amounts["demonstrations"] == 10_000
    assert "nothing measured" in huge.says
    assert plain(small)["predicted"] is None


def test_pilots_that_cannot_carry_a_law_and_money_that_is_none_are_refused():
    law = LabelLaw(0.2, 2.0, 0.4, 0.5)
    with pytest.raises(UsageError, match="both weak and strong labels vary"):
        allocate_labels([(0.0, float(n), 1.0) for n in range(9)], budget=9, weak_cost=1, strong_cost=1, rng=rng())
    with pytest.raises(UsageError, match="positive numbers"):
        allocate_labels(pilots(law), budget=0, weak_cost=1, strong_cost=1, rng=rng())
    with pytest.raises(UsageError, match="four shares"):
        allocate_preferences(100, cost_ratio=1, pilots=[(0.0, 1.0), (1.0, 2.0)], rng=rng())
    with pytest.raises(UsageError, match="not negative"):
        fit_label_law(np.array([-1.0, 0, 1, 2, 3, 4]), np.arange(6.0), np.arange(6.0))
