"""Steps of the search for one configuration: measure the model tuned on a pool, and choose by the smallest gain."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import polars as pl

from methods.self_tuning import SelfTuning
from schemas.lineage import DatasetRef, Manifest
from schemas.recipe import Strict
from schemas.search import ConfigurationSearch
from storage.files.places import local_folder
from storage.runs import account_of, new_run_id
from tasks.bench import Bench, open_store
from tasks.materialise import Work, materialise
from tasks.stage_task import stage_task

VERSION = 2


class Gain(Strict):
    """What one configuration did for one task; null where nothing could be measured."""

    configuration: str
    task: str
    metric: str
    examples: int
    before: float | None
    after: float | None
    change: float | None
    change_low: float | None
    change_high: float | None


def bench_of_search(search: ConfigurationSearch, store: Any, run_id: str | None = None) -> Bench:
    """The bench of a search; a resumed one goes on with the budget of the one that was stopped."""
    run_id = run_id or new_run_id()
    return Bench(
        store=store, run_id=run_id, account=account_of(local_folder(store), search.name, run_id),
        rng_seed=search.rng_seed, backends=search.backends, budget=search.budget,
    )  # fmt: skip


def measuring(search: ConfigurationSearch) -> SelfTuning:
    """How each task is measured."""
    return SelfTuning(**search.measure.model_dump())


def with_epochs(bench: Bench, epochs: float) -> Bench:
    """The same bench with a tuner that passes over the rows so often."""
    tune = bench.config("tune").model_copy(update={"epochs": epochs})
    return bench.model_copy(update={"backends": bench.backends.model_copy(update={"tune": tune})})


@stage_task("measure {method.method}", "gpu")
def measure_tuned(pool: DatasetRef, dev: DatasetRef, seeds: DatasetRef, method: SelfTuning, bench: Bench) -> DatasetRef:
    """Each task's metric before and after tuning on ``pool``, measured on ``dev``; the scores of its rows."""

    def compute(work: Work) -> None:
        rows = work.store.pool(dev)
        result = method.measure(
            work.store.pool(pool), rows.unique("id", keep="first", maintain_order=True), work.store.pool(seeds),
            using=work.using, rng=work.rng,
        )  # fmt: skip
        found = rows.select("id").join(result.examples, on="id", how="left", maintain_order="left")
        parts = [pl.col(c) for c in ("exact_match", "rouge_l") if c in found.columns]
        score = pl.coalesce(*parts).cast(pl.Float64).alias("score")
        work.draft.keep_members(work.store.describe(dev))
        work.draft.put("scores", found.select(score, *(part.cast(pl.Float64) for part in parts)))
        work.draft.summary = result.report.model_dump(mode="json")
        work.draft.nondeterministic = True

    return materialise("evaluate", method, [("made", pool), ("pool", dev), ("seeds", seeds)], bench, compute)


@stage_task("choose", "cpu")
def choose(measured: Mapping[str, DatasetRef], name: str, bench: Bench) -> DatasetRef:
    """The configuration whose smallest gain over all tasks is the largest; of equals the larger mean, then the first."""

    def compute(work: Work) -> None:
        gains = {key: gains_of(key, work.store.describe(ref)) for key, ref in measured.items()}
        worst = {key: smallest(rows) for key, rows in gains.items()}
        mean = {key: fmean(row.change for row in gains[key] if row.change is not None) for key in known_in(worst)}
        work.draft.summary = {
            "chosen": max(mean, key=lambda key: (worst[key], mean[key])) if mean else None,
            "smallest_gain": worst,
            "mean_gain": mean,
            "gains": [row.model_dump() for rows in gains.values() for row in rows],
        }

    method = {"method": "max-min-gain", "version": VERSION, "search": name, "configurations": list(measured)}
    return materialise("search", method, list(measured.items()), bench, compute)


def gains_of(configuration: str, manifest: Manifest) -> list[Gain]:
    """A line per task of one measurement."""
    return [
        Gain(
            configuration=configuration, task=line["slice"].removeprefix("task="), metric=line["metric"],
            examples=line["examples"], before=line["before"], after=line["value"], change=line["change"],
            change_low=line["change_low"], change_high=line["change_high"],
        )
        for line in manifest.summary["measured"]
    ]  # fmt: skip


def known_in(values: Mapping[str, float | None]) -> list[str]:
    """Keys with a value."""
    return [key for key, value in values.items() if value is not None]


def smallest(gains: list[Gain]) -> float | None:
    """The gain of the task that gains least; None where one of them could not be measured."""
    changes = [gain.change for gain in gains]
    known = [change for change in changes if change is not None]
    return min(known) if known and len(known) == len(changes) else None


def outcome_of_search(store: Any, ref: str, bench: Bench) -> dict[str, Any]:
    """What a search found, for people and ``--json``."""
    return {"ref": ref, **open_store(bench).describe(open_store(bench).resolve(ref)).summary}
