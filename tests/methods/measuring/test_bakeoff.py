"""What a bake-off says of planted losses: a true lead, a tie, a loss, unscored examples, and the plain sentence."""

import zlib

import numpy as np
import pytest

from methods.measuring.bakeoff import Trial, paired_difference, verdict_of
from schemas.errors import EmptyStage


def trials(label: str, gain: float, *, seeds: int = 4, noise: float = 0.05, ids: int = 0) -> list[Trial]:
    draw = np.random.default_rng(zlib.crc32(label.encode()))
    base = np.linspace(1.0, 4.0, 60)
    return [
        Trial(label, s, base - gain + draw.normal(0, noise, 60), frozenset(bytes([i + ids * s]) for i in range(10)))
        for s in range(seeds)
    ]


def test_a_true_lead_wins_a_small_one_ties_and_a_worse_one_is_called_worse() -> None:
    found = verdict_of(
        [*trials("uniform", 0.0, ids=5), *trials("better", 0.3), *trials("same", 0.0), *trials("worse", -0.3)],
        "uniform",
        np.random.default_rng(0),
    )
    lines = {line["contender"]: line for line in found["table"]}
    assert found["winner"] == "better"
    assert found["says"].startswith("better beats random selection by ")
    assert lines["better"]["against_random"]["estimate"] == pytest.approx(-0.3, abs=0.03)
    assert lines["better"]["against_random"]["high"] < 0
    assert lines["same"]["against_random"]["low"] < 0 < lines["same"]["against_random"]["high"]
    assert lines["worse"]["against_random"]["low"] > 0
    assert (lines["better"]["stability"], lines["uniform"]["stability"] < 1) == (1.0, True)
    assert found["table"][0]["contender"] == "better"
    assert lines["uniform"]["against_random"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}


def test_where_nothing_beats_chance_it_says_so_and_chance_wins() -> None:
    found = verdict_of(
        [*trials("uniform", 0.0), *trials("same", 0.0), *trials("worse", -1.0)], "uniform", np.random.default_rng(0)
    )
    assert found["winner"] == "uniform"
    assert found["says"] == (
        "Nothing beats random selection here: no contender's interval over 4 seeds lies below chance; worse is worse."
    )


def test_rounding_is_no_lead_and_no_loss() -> None:
    flat = np.linspace(1.0, 4.0, 60)
    by = {"uniform": 0.0, "near": -1e-9, "far": 2e-5}
    made = [Trial(name, s, flat + off, frozenset()) for name, off in by.items() for s in range(3)]
    found = verdict_of(made, "uniform", np.random.default_rng(0))
    assert found["winner"] == "uniform"
    assert found["says"].endswith("lies below chance.")


def test_a_target_example_that_one_proxy_could_not_score_counts_for_nobody() -> None:
    holes = [Trial("holes", s, np.where(np.arange(60) < 30, np.nan, 1.0), frozenset()) for s in range(4)]
    found = verdict_of([*trials("uniform", 0.0), *holes], "uniform", np.random.default_rng(0))
    lines = {line["contender"]: line for line in found["table"]}
    assert lines["uniform"]["loss"] == pytest.approx(np.linspace(1, 4, 60)[30:].mean(), abs=0.05)
    nothing = [Trial("void", s, np.full(60, np.nan), frozenset()) for s in range(4)]
    with pytest.raises(EmptyStage, match="nothing can be compared"):
        verdict_of([*trials("uniform", 0.0), *nothing], "uniform", np.random.default_rng(0))


def test_the_interval_covers_the_true_difference() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        seeds = draw.normal(0, 0.05, (2, 8, 1))
        examples = draw.normal(2, 1, 40)
        ours = examples - 0.1 + seeds[0] + draw.normal(0, 0.1, (8, 40))
        theirs = examples + seeds[1] + draw.normal(0, 0.1, (8, 40))
        gap = paired_difference(ours, theirs, draw, samples=300)
        covered += gap["low"] <= -0.1 <= gap["high"]
    assert covered >= 51, "at least 85 % of 60, for 95 % nominal with eight seeds a side"
