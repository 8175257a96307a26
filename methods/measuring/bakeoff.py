"""What a bake-off says: means with intervals, paired against chance, stability over seeds, and one plain sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from methods.stats import NEGLIGIBLE, bootstrap, paired_bootstrap
from schemas.errors import EmptyStage


@dataclass(frozen=True)
class Trial:
    """One proxy of one contender. ``losses`` per target example in nats per token, NaN where it could not be scored."""

    label: str
    seed: int
    losses: np.ndarray
    ids: frozenset[bytes]
    choice: str = ""
    train_seconds: float = 0.0
    choose_seconds: float = 0.0
    tokens: int = 0
    also: dict[str, Any] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean over the target examples that were scored."""
        return float(np.nanmean(self.losses)) if (~np.isnan(self.losses)).any() else float("nan")

    def row(self) -> dict[str, Any]:
        """As a line of the table of runs."""
        return {
            "contender": self.label,
            "rng_seed": self.seed,
            "loss": self.loss,
            "examples": len(self.ids),
            "choose_seconds": self.choose_seconds,
            "train_seconds": self.train_seconds,
            "tokens": self.tokens,
            "choice": self.choice,
        }


def verdict_of(trials: Sequence[Trial], baseline: str, rng: np.random.Generator) -> dict[str, Any]:
    """``table`` (best first), ``winner`` and ``says``.

    Each line has the mean loss over seeds and target examples with a 95 % interval; ``against_random`` is the paired
    difference to the baseline, seeds and examples both resampled, below 0 where the contender is better; ``stability`` the
    mean Jaccard overlap of its choices between seeds; ``cost`` the seconds and tokens of choosing, once. The winner is the
    lowest mean among those whose whole interval lies below 0, else the baseline.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.label, []).append(trial)
    scored = np.asarray(~np.isnan(np.stack([trial.losses for trial in trials])).any(axis=0))
    if not scored.any():
        raise EmptyStage(
            "no target example was scored by every proxy, so nothing can be compared; look at their answers"
        )
    chance = _losses(groups[baseline], scored)
    lines = [_line(label, group, chance, scored, rng, baseline) for label, group in groups.items()]
    lines.sort(key=lambda line: (line["loss"], line["contender"]))
    others = [line for line in lines if line["contender"] != baseline]
    better = [line for line in others if line["against_random"]["high"] < -NEGLIGIBLE]
    worse = [line["contender"] for line in others if line["against_random"]["low"] > NEGLIGIBLE]
    winner = better[0]["contender"] if better else baseline
    return {"table": lines, "winner": winner, "says": _sentence(better, worse, lines, baseline), "baseline": baseline}


def _line(
    label: str,
    group: Sequence[Trial],
    chance: np.ndarray,
    scored: np.ndarray,
    rng: np.random.Generator,
    baseline: str,
) -> dict[str, Any]:
    own = _losses(group, scored)
    mean = bootstrap(own.mean(axis=0), rng=rng)
    gap = paired_difference(own, chance, rng) if label != baseline else {"estimate": 0.0, "low": 0.0, "high": 0.0}
    overlaps = [len(a.ids & b.ids) / max(1, len(a.ids | b.ids)) for a, b in combinations(group, 2)]
    return {
        "contender": label,
        "loss": float(own.mean()),
        "low": mean.low,
        "high": mean.high,
        "against_random": gap,
        "seeds": len(group),
        "seed_losses": [round(t.loss, 6) for t in group],
        "stability": float(np.mean(overlaps)) if overlaps else 1.0,
        "examples": len(group[0].ids),
        "choose_seconds": group[0].choose_seconds,
        "tokens": group[0].tokens,
        "train_seconds": float(np.mean([t.train_seconds for t in group])),
    }


def _losses(group: Sequence[Trial], scored: np.ndarray) -> np.ndarray:
    """Seeds by the examples that every proxy of every contender could score."""
    return np.stack([t.losses for t in group])[:, scored]


def paired_difference(
    ours: np.ndarray, theirs: np.ndarray, rng: np.random.Generator, samples: int = 2000
) -> dict[str, float]:
    """Mean of ours - theirs with a 95 % interval, both (seeds, examples): seeds are drawn anew on each side, examples together."""
    if len(ours) < 2 and len(theirs) < 2:
        one = paired_bootstrap(ours.mean(axis=0), theirs.mean(axis=0), rng=rng, samples=samples)
        return {"estimate": one.estimate, "low": one.low, "high": one.high}
    drawn = np.empty(samples)
    for i in range(samples):
        columns = rng.integers(0, ours.shape[1], ours.shape[1])
        a = ours[rng.integers(0, len(ours), len(ours))][:, columns].mean()
        b = theirs[rng.integers(0, len(theirs), len(theirs))][:, columns].mean()
        drawn[i] = a - b
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"estimate": float(ours.mean() - theirs.mean()), "low": float(low), "high": float(high)}


def _sentence(better: list[dict[str, Any]], worse: list[str], lines: list[dict[str, Any]], baseline: str) -> str:
    seeds = lines[0]["seeds"]
    if not better:
        tail = f"; {', '.join(worse)} {'is' if len(worse) == 1 else 'are'} worse" if worse else ""
        return (
            f"Nothing beats random selection here: no contender's interval over {seeds} seeds lies below chance{tail}."
        )
    best = better[0]
    gap = best["against_random"]
    rest = [line["contender"] for line in better[1:]]
    also = f" {', '.join(rest)} also beat{'s' if len(rest) == 1 else ''} it." if rest else ""
    return (
        f"{best['contender']} beats random selection by {-gap['estimate']:.3f} nats per token "
        f"({-gap['high']:.3f} to {-gap['low']:.3f}) over {seeds} seeds.{also}"
    )
