"""Which dataset version did most for a model? Only runs that differ in nothing but the data are put side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from methods.measuring.evaluation import SCORE_COLUMNS, bootstrap, interval, weighted
from methods.stats import NEGLIGIBLE, Interval
from schemas.lineage import DatasetRef, Manifest
from storage.questions.comparable import Terms, differing, terms_of
from storage.questions.training import metrics_of, model_name
from storage.questions.views import Metric
from storage.store import Store

#: Metrics for which less is more; a benchmark of the harness says it itself.
LOWER_IS_BETTER = frozenset({"loss"})


class Entry(BaseModel):
    """One dataset version on one leaderboard; figures are means over its training seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    tags: tuple[str, ...] = ()
    examples: int | None = None
    value: float
    low: float | None = Field(description="95 % interval over examples; over several seeds the widest")
    high: float | None
    change: float | None = Field(description="against the model before training, on the same examples")
    change_low: float | None
    change_high: float | None
    seeds: int = 1
    seed_low: float | None = Field(
        default=None, description="lowest and highest value over training seeds, where there are several"
    )
    seed_high: float | None = None
    evaluations: tuple[str, ...] = ()
    against_best: str = Field(
        default="", description="best, tied with the best, or worse than the best, by a paired interval"
    )
    gap: float | None = Field(default=None, description="distance from the best on the same examples")
    gap_low: float | None = None
    gap_high: float | None = None


class Board(BaseModel):
    """Entries that may be compared: the same examples, base model, training settings and metric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    metric: str
    target: str
    target_tags: tuple[str, ...] = ()
    target_name: str = Field(default="", description="its newest tag; else the name of the source")
    target_examples: int
    model: str
    training: Mapping[str, Any]
    lower_is_better: bool
    entries: tuple[Entry, ...]
    says: str


class Leaderboard(BaseModel):
    """All boards, the one with most entries first; ``apart`` says why there is more than one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boards: tuple[Board, ...]
    apart: str = ""


class _Run(BaseModel):
    """One figure of one evaluation of one trained model, with what it must share to be compared."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    manifest: Manifest
    tuned: Manifest
    dataset: str
    measured: Metric
    terms: Terms


def leaderboard(store: Store, metric: str | None = None) -> Leaderboard:
    """Every board of a store; with ``metric`` only those of that one."""
    tags: dict[str, list[str]] = {}
    for name in (tag.name for tag in store.tags()):
        for tag in store.tag_history(name):
            tags.setdefault(str(tag.ref), []).append(f"{tag.name}@v{tag.number}")
    newest: dict[str, dict[str, _Run]] = {}  # of each model: it may have been evaluated again for other metrics
    for run in _runs(store):
        if metric in (None, run.measured.name):
            newest.setdefault(run.terms.key, {})[str(run.tuned.ref)] = run
    groups = {key: list(runs.values()) for key, runs in newest.items()}
    boards = [_board(store, key, group, tags) for key, group in groups.items()]
    boards.sort(key=lambda board: (-len(board.entries), board.metric, board.key))
    kinds = differing([group[0].terms for group in groups.values()])
    reasons = ", ".join(f"{count} {name}" for name, count in kinds.items())
    return Leaderboard(boards=tuple(boards), apart=f"not compared with one another: {reasons}" if reasons else "")


def _runs(store: Store) -> list[_Run]:
    manifests = {str(manifest.ref): manifest for manifest in store.versions()}
    found: list[_Run] = []
    for manifest in manifests.values():
        if manifest.ref.stage != "evaluate":
            continue
        tuned = manifests.get(str(dict(manifest.step.inputs).get("model")))
        if tuned is None or tuned.ref.stage != "finetune":
            continue
        dataset = str(dict(tuned.step.inputs)["dataset"])
        found += [
            _Run(manifest=manifest, tuned=tuned, dataset=dataset, measured=one, terms=terms_of(manifest, tuned, one))
            for one in metrics_of(manifest.summary)
            if one.slice == "all" and one.value is not None
        ]
    return found


def _board(store: Store, key: str, group: Sequence[_Run], tags: Mapping[str, list[str]]) -> Board:
    first = group[0]
    metric, aim = first.measured.name, first.terms.target
    lower = _lower_is_better(first)
    by_dataset: dict[str, list[_Run]] = {}
    for run in group:
        by_dataset.setdefault(run.dataset, []).append(run)
    entries = [_entry(dataset, runs, tags) for dataset, runs in by_dataset.items()]
    entries.sort(key=lambda entry: (entry.value if lower else -entry.value, entry.dataset))
    losses = {entry.dataset: _per_example(store, by_dataset[entry.dataset]) for entry in entries}
    compared = [_compared(entry, entries[0], losses, lower) for entry in entries]
    return Board(
        key=key,
        metric=metric,
        target=aim,
        target_tags=tuple(tags.get(aim, ())),
        target_name=_name_of(store, aim, tags.get(aim, ())),
        target_examples=int(first.measured.examples or 0),
        model=model_name(first.tuned) or "unknown",
        training=dict(first.tuned.step.backends.get("train", {})),
        lower_is_better=lower,
        entries=tuple(compared),
        says=_says(compared, metric),
    )


class Change(BaseModel):
    """What a model trained on one version did that one trained on another did not, over the same examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    target: str
    change: float = Field(description="after - before")
    low: float
    high: float
    verdict: str = Field(description="better, worse, or no difference shown, by the paired 95 % interval")


def changes(store: Store, before: DatasetRef, after: DatasetRef) -> tuple[Change, ...]:
    """Each metric by which models trained on both versions were measured alike, as a leaderboard pairs them."""
    groups: dict[str, dict[str, dict[str, _Run]]] = {}
    for run in _runs(store):  # of each model the newest
        if run.dataset in (str(before), str(after)):
            groups.setdefault(run.terms.key, {}).setdefault(run.dataset, {})[str(run.tuned.ref)] = run
    found: list[Change] = []
    for sides in groups.values():
        if len(sides) == 2:
            old, new = (list(sides[str(ref)].values()) for ref in (before, after))
            gap = _gap(_per_example(store, new), _per_example(store, old))
            if gap is None:
                continue
            rose, fell = gap.low > NEGLIGIBLE, gap.high < -NEGLIGIBLE
            good, bad = (fell, rose) if _lower_is_better(new[0]) else (rose, fell)
            found.append(
                Change(
                    metric=new[0].measured.name,
                    target=_name_of(store, new[0].terms.target, ()),
                    change=gap.estimate,
                    low=gap.low,
                    high=gap.high,
                    verdict="better" if good else "worse" if bad else "no difference shown",
                )
            )
    return tuple(found)


def _lower_is_better(run: _Run) -> bool:
    benchmark: Any = (run.manifest.summary.get("tasks") or {}).get(run.measured.name) or {}
    return run.measured.name in LOWER_IS_BETTER or benchmark.get("higher_is_better") is False


def _name_of(store: Store, target: str, tags: Sequence[str]) -> str:
    """What a person calls the examples that were measured on; a benchmark of the harness is no version."""
    if tags:
        return tags[-1]
    manifest = store.lookup(DatasetRef.parse(target)) if DatasetRef.looks_like(target) else None
    return str(manifest.step.method.get("source") or target) if manifest else target


def _entry(dataset: str, runs: Sequence[_Run], tags: Mapping[str, list[str]]) -> Entry:
    values = [run.measured.value for run in runs if run.measured.value is not None]
    changes = [run.measured.change for run in runs if run.measured.change is not None]
    trained: Any = runs[0].tuned.summary.get("trained_on") or {}
    several = len(runs) > 1

    def widest(name: str, pick: Any) -> float | None:
        known = [getattr(run.measured, name) for run in runs if getattr(run.measured, name) is not None]
        return float(pick(known)) if known else None

    return Entry(
        dataset=dataset,
        tags=tuple(tags.get(dataset, ())),
        examples=trained.get("examples"),
        value=float(np.mean(values)),
        low=widest("low", min),
        high=widest("high", max),
        change=float(np.mean(changes)) if changes else None,
        change_low=widest("change_low", min),
        change_high=widest("change_high", max),
        seeds=len(runs),
        seed_low=min(values) if several else None,
        seed_high=max(values) if several else None,
        evaluations=tuple(str(run.manifest.ref) for run in runs),
    )


@dataclass(frozen=True)
class _Scores:
    """The metric per example of the target, NaN where one was not scored, and what each counts: tokens for a loss."""

    values: np.ndarray
    weight: np.ndarray


def _per_example(store: Store, runs: Sequence[_Run]) -> _Scores | None:
    """Averaged over seeds; None where figures are not kept per example."""
    rows: list[np.ndarray] = []
    weight: np.ndarray | None = None
    for run in runs:
        name, parts = run.measured.name, run.manifest.parts
        if "sidecar/examples" in parts:
            values = store.part(run.manifest.ref, "sidecar/examples").filter(metric=name).sort("doc_id")["value"]
        else:
            scores = store.part(run.manifest.ref, "scores") if "scores" in parts else pl.DataFrame()
            column = SCORE_COLUMNS.get(name)
            if column is None or column not in scores.columns:
                return None
            values = scores[column]
            if name == "loss" and "n_tokens" in scores.columns:
                weight = scores["n_tokens"].cast(pl.Float64).fill_null(0.0).to_numpy()
        rows.append(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())
    if len({len(row) for row in rows}) != 1:
        return None
    return _Scores(np.mean(rows, axis=0), np.ones(len(rows[0])) if weight is None else weight)


def _gap(own: _Scores | None, theirs: _Scores | None) -> Interval | None:
    """The mean of ``own - theirs``, weighed as the metric is, over the examples that both scored; None if none pair."""
    if own is None or theirs is None or len(own.values) != len(theirs.values):
        return None
    both = ~(np.isnan(own.values) | np.isnan(theirs.values)) & (own.weight > 0)
    if both.sum() < 2:
        return None
    columns, weight = [own.values[both], theirs.values[both]], own.weight[both]
    draws = bootstrap(columns, weight, np.random.default_rng(0))
    low, high = interval(draws[:, 0] - draws[:, 1])
    return Interval(weighted(columns[0], weight) - weighted(columns[1], weight), low, high)


def _compared(entry: Entry, best: Entry, losses: Mapping[str, _Scores | None], lower: bool) -> Entry:
    if entry.dataset == best.dataset:
        return entry.model_copy(update={"against_best": "best"})
    gap = _gap(losses[entry.dataset], losses[best.dataset])
    if gap is None:
        return entry.model_copy(update={"against_best": "not comparable example by example"})
    worse = gap.low > 0 if lower else gap.high < 0
    return entry.model_copy(
        update={
            "against_best": "worse than the best" if worse else "tied with the best",
            "gap": gap.estimate,
            "gap_low": gap.low,
            "gap_high": gap.high,
        }
    )


def _says(entries: Sequence[Entry], metric: str) -> str:
    """One sentence that does not claim more than the intervals do."""
    best = entries[0]
    name = best.tags[-1] if best.tags else best.dataset
    if len(entries) == 1:
        return f"{name} is the only dataset measured this way; there is nothing to compare it with."
    ties = [e.tags[-1] if e.tags else e.dataset for e in entries[1:] if e.against_best != "worse than the best"]
    if ties:
        return f"{name} has the best {metric}, but its lead over {', '.join(ties[:5])} is within the interval."
    return f"{name} has the best {metric}, and its lead over every other is outside the interval."
