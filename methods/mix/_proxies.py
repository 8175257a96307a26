"""What every method that measures mixtures shares: its lab, its queue of proxy runs, the final check against baselines."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from methods.mix._blend import blend, sizes_of
from methods.mixtures.findings import compared, plain_comparison, plain_interval, sentence, student_interval
from methods.mixtures.runs import Lab, Run, measure, prepared, runs_of, table
from schemas.errors import BackendError, UsageError
from schemas.method import Blend, MixMethod, Using

#: Seeds of the runs that check the proposal are far from those of the pilots.
_CHECK_SEED = 1000


@dataclass(frozen=True)
class Job:
    """One entry of the queue: ``make`` measures it, once per store; ``words`` say what it is."""

    words: str
    make: Callable[[Using], Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """Shares per source of the lab, (k,), sum 1, and how they were found: notes as JSON, and the runs behind them."""

    shares: np.ndarray
    notes: Mapping[str, Any] = field(default_factory=dict)
    runs: Sequence[Run] = ()
    results: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[float | None] = ()  # of the mean loss of each run, by a law that has not seen it


class Watch:
    """Counts the jobs of a queue for whoever waits."""

    def __init__(self, using: Using, total: int) -> None:
        self.using, self.total, self.done = using, total, 0

    def __call__(self, job: Job) -> Mapping[str, Any]:
        """Do the job, or find it done, and tell."""
        result = job.make(self.using)
        self.done += 1
        self.using.progress(self.done, max(self.total, self.done), f"proxy run {told(job, result)}")
        return result


def told(job: Job, result: Mapping[str, Any]) -> str:
    """A job's words with the mean of its losses."""
    losses = [x for x in (result.get("losses") or {}).values() if x is not None]
    return f"{job.words}: loss {np.mean(losses):.4f}" if losses else job.words


class ProxyMix(MixMethod):
    """Base of the methods that train proxies. Without a target set a fifth of each source, at most, is held out."""

    aims: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"tune"})

    total_examples: int | None = Field(None, gt=0, description="size of the mixture; by default that of all pools")
    max_repeats: float = Field(4.0, gt=0, description="how often one example may stand in the mixture, on average")
    proxy_examples: int = Field(400, ge=8, description="examples that each proxy run learns from")
    proxy_epochs: float = Field(2.0, gt=0, description="passes of a proxy over its examples")
    eval_examples: int = Field(64, ge=1, description="examples that each group is measured on")
    importance: dict[str, float] | None = Field(
        None, description="weight per measured group in the loss that is minimized; all alike by default"
    )
    check_seeds: int = Field(
        3, ge=0, description="runs of the proposed, the uniform and the proportional mixture to compare them; 0 = none"
    )
    design_seed: int = Field(
        0, ge=0, description="decides mixtures, held-out examples and proxies' seeds: methods of one design share runs"
    )

    @abstractmethod
    def find(self, lab: Lab, caps: np.ndarray, watch: Watch, rng: np.random.Generator) -> Finding:
        """The shares of the lab's sources, none above its cap."""

    @abstractmethod
    def first_jobs(self, lab: Lab) -> Sequence[Job]:
        """What can be measured before anything is known: the queue that may be worked off in parallel."""

    def reads(self) -> tuple[str, ...]:
        """What proxies learn, and the hash that it is remembered by."""
        return ("content_hash", "messages")

    def lab(self, pools: Mapping[str, pl.DataFrame], target: pl.DataFrame | None) -> Lab:
        """What the proxies learn from and are measured on."""
        lab = prepared(pools, target, eval_examples=self.eval_examples, rng_seed=self.design_seed)
        unknown = sorted(set(self.importance or {}) - set(lab.measured))
        if unknown:
            raise UsageError(f"importance names the group {unknown[0]!r}; measured are {', '.join(lab.measured)}")
        return lab

    def queue(self, pools: Mapping[str, pl.DataFrame], target: pl.DataFrame | None) -> list[Job]:
        """Every run that `weigh` will ask for whatever the others give, baselines included; none for a single source."""
        lab = self.lab(pools, target)
        return [] if len(lab.sources) < 2 else [*self.first_jobs(lab), *self._baseline_jobs(lab)]

    def weigh(
        self,
        pools: Mapping[str, pl.DataFrame],
        *,
        using: Using,
        rng: np.random.Generator,
        target: pl.DataFrame | None = None,
    ) -> Blend:
        """See `MixMethod`; every proxy run is made once per store."""
        sizes = sizes_of(pools)
        total = self.total_examples or sum(sizes.values())
        lab = self.lab(pools, target)
        if len(lab.sources) == 1:
            only = blend(sizes, [float(name in lab.train) for name in sizes], total, self.max_repeats)
            notes = {**only.notes, "says": f"{lab.sources[0]} is the only source to learn from; nothing was measured"}
            return Blend(only.weights, only.take, notes)
        caps = np.array([self.max_repeats * sizes[name] / total for name in lab.sources])
        if caps.sum() < 1:  # the whole mixture cannot be filled: as much of everything as there is
            caps = caps / caps.sum()
        watch = Watch(using, len(self.first_jobs(lab)) + 3 * self.check_seeds)
        found = self.find(lab, caps, watch, rng)
        checked, notes = self._check(lab, found.shares, watch)
        by_name = dict(zip(lab.sources, found.shares.tolist(), strict=True))
        made = blend(sizes, [by_name.get(name, 0.0) for name in sizes], total, self.max_repeats)
        return Blend(
            made.weights,
            made.take,
            {**made.notes, **self._about(lab), **found.notes, **notes},
            self._sidecar(lab, found, checked),
        )

    def weights_of(self, lab: Lab) -> np.ndarray:
        """Importance per measured group, (m,), sum 1."""
        chosen = self.importance or dict.fromkeys(lab.measured, 1.0)
        weights = np.array([chosen.get(name, 0.0) for name in lab.measured])
        if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
            raise UsageError(f"importance must be finite, not negative and not all zero; got {chosen}")
        return weights / weights.sum()

    def runs(self, kind: str, lab: Lab, mixtures: np.ndarray, seeds: Sequence[int]) -> list[Run]:
        """Runs of this method's size."""
        return runs_of(kind, lab.sources, mixtures, seeds, examples=self.proxy_examples, epochs=self.proxy_epochs)

    def _check(
        self, lab: Lab, shares: np.ndarray, watch: Watch
    ) -> tuple[list[tuple[Run, Mapping[str, Any]]], dict[str, Any]]:
        """Measured losses of the proposal and of the baselines over the same seeds, and what they say."""
        if not self.check_seeds:
            return [], {"says": "the mixture was not measured: check_seeds is 0"}
        mixtures = {"proposed": shares, **_baselines(lab)}
        done: list[tuple[Run, Mapping[str, Any]]] = []
        losses: dict[str, list[float | None]] = {}
        weights = self.weights_of(lab)
        for name, mixture in mixtures.items():
            runs = self._check_runs(name, lab, mixture)
            results = [watch(job_of(run, lab)) for run in runs]
            done += zip(runs, results, strict=True)
            losses[name] = table(runs, results, lab, weights)["measured"].to_list()
        others = compared(losses)
        known = [x for x in losses["proposed"] if x is not None]
        notes: dict[str, Any] = {
            "measured": plain_interval(student_interval(known)) if known else None,
            "compared": [plain_comparison(one) for one in others],
            "says": sentence(losses["proposed"], others),
        }
        return done, notes

    def _check_runs(self, name: str, lab: Lab, mixture: np.ndarray) -> list[Run]:
        seeds = [_CHECK_SEED + self.design_seed + i for i in range(self.check_seeds)]
        return self.runs(f"check: {name}", lab, mixture[None, :], seeds)

    def _baseline_jobs(self, lab: Lab) -> list[Job]:
        return [
            job_of(run, lab)
            for name, mixture in _baselines(lab).items()
            for run in self._check_runs(name, lab, mixture)
        ]

    def _about(self, lab: Lab) -> dict[str, Any]:
        return {
            "measured_on": {name: frame.height for name, frame in lab.measured.items()},
            "importance": dict(zip(lab.groups, self.weights_of(lab).tolist(), strict=True)),
            "learned_from": {name: frame.height for name, frame in lab.train.items()},
            "left_out": dict(lab.left_out),
        }

    def _sidecar(
        self, lab: Lab, found: Finding, checked: Sequence[tuple[Run, Mapping[str, Any]]]
    ) -> pl.DataFrame | None:
        runs = [*found.runs, *(run for run, _ in checked)]
        if not runs:
            return None
        results = [*found.results, *(result for _, result in checked)]
        said = [*found.predictions, *[None] * (len(runs) - len(found.predictions))]
        frame = table(runs, results, lab, self.weights_of(lab))
        return frame.with_columns(pl.Series("predicted", said, dtype=pl.Float64))


def job_of(run: Run, lab: Lab) -> Job:
    """A proxy run as an entry of the queue."""
    return Job(f"{run.kind} ({run.words()}), seed {run.rng_seed}", lambda using: measure(run, lab, using))


def losses_of(
    runs: Sequence[Run], results: Sequence[Mapping[str, Any]], lab: Lab
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Shares, (n, k), and losses, (n, m), of the runs whose every loss is a finite number, and which those are.

    Raises ``BackendError`` where more than half of the runs have none.
    """
    good = [i for i, result in enumerate(results) if all(result["losses"].get(g) is not None for g in lab.groups)]
    if len(good) * 2 < len(runs) or not good:
        raise BackendError(
            f"{len(runs) - len(good)} of {len(runs)} proxy runs ended without a finite loss; "
            "lower the tuner's learning_rate (backends: tune) or look at the examples' answers"
        )
    shares = np.array([[runs[i].shares.get(name, 0.0) for name in lab.sources] for i in good])
    losses = np.array([[results[i]["losses"][g] for g in lab.groups] for i in good], dtype=np.float64)
    return shares, losses, good


def _baselines(lab: Lab) -> dict[str, np.ndarray]:
    return {"uniform": np.full(len(lab.sources), 1 / len(lab.sources)), "proportional": lab.sizes / lab.sizes.sum()}
