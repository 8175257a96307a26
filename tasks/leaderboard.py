"""Which dataset version did most for a model? Only runs that differ in nothing but the data are put side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from methods.stats import paired_bootstrap
from schemas.identity import fingerprint
from storage.store import Store
from storage.training import metrics_of, model_name

#: Metrics for which less is more.
LOWER_IS_BETTER = frozenset({"loss"})

#: The column of an evaluation's scores that holds a metric per example.
_COLUMNS = {"loss": "loss", "exact-match": "exact_match", "rouge-l": "rouge_l", "pass@k": "pass_at_k"}


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
    """One evaluation of one trained model, with what it must share to be compared."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    manifest: Any
    tuned: Any
    dataset: str
    target: str
    training: dict[str, Any]


def leaderboard(store: Store, metric: str | None = None) -> Leaderboard:
    """Every board of a store; with ``metric`` only those of that one."""
    tags: dict[str, list[str]] = {}
    for name in (tag.name for tag in store.tags()):
        for tag in store.tag_history(name):
            tags.setdefault(str(tag.ref), []).append(f"{tag.name}@v{tag.number}")
    groups: dict[str, list[tuple[_Run, Any]]] = {}
    for run in _runs(store):
        for measured in metrics_of(run.manifest.summary):
            if measured.slice == "all" and measured.value is not None and metric in (None, measured.name):
                key = fingerprint([measured.name, run.target, run.training, measured.examples])
                groups.setdefault(key, []).append((run, measured))
    boards = [_board(store, key, group, tags) for key, group in groups.items()]
    boards.sort(key=lambda board: (-len(board.entries), board.metric, board.key))
    return Leaderboard(boards=tuple(boards), apart=_apart(boards))


def _runs(store: Store) -> list[_Run]:
    manifests = {str(manifest.ref): manifest for manifest in store.versions()}
    found: list[_Run] = []
    for manifest in manifests.values():
        if manifest.ref.stage != "evaluate":
            continue
        inputs = dict(manifest.step.inputs)
        tuned = manifests.get(str(inputs.get("model")))
        target = inputs.get("pool")
        if tuned is None or tuned.ref.stage != "finetune" or target is None:
            continue
        found.append(
            _Run(
                manifest=manifest,
                tuned=tuned,
                dataset=str(dict(tuned.step.inputs)["dataset"]),
                target=str(target),
                training={
                    "trainer": dict(tuned.step.backends.get("train", {})),
                    "evaluation": {k: v for k, v in manifest.step.method.items() if k not in ("metrics", "method")},
                },
            )
        )
    return found


def _board(store: Store, key: str, group: Sequence[tuple[_Run, Any]], tags: Mapping[str, list[str]]) -> Board:
    first, measured = group[0]
    metric = measured.name
    lower = metric in LOWER_IS_BETTER
    by_dataset: dict[str, list[tuple[_Run, Any]]] = {}
    for run, one in group:
        by_dataset.setdefault(run.dataset, []).append((run, one))
    entries = [_entry(store, dataset, runs, tags) for dataset, runs in by_dataset.items()]
    entries.sort(key=lambda entry: (entry.value if lower else -entry.value, entry.dataset))
    losses = {entry.dataset: _per_example(store, by_dataset[entry.dataset], metric) for entry in entries}
    compared = [_compared(entry, entries[0], losses, lower) for entry in entries]
    return Board(
        key=key,
        metric=metric,
        target=first.target,
        target_tags=tuple(tags.get(first.target, ())),
        target_examples=int(measured.examples or 0),
        model=model_name(first.tuned) or "unknown",
        training=first.training["trainer"],
        lower_is_better=lower,
        entries=tuple(compared),
        says=_says(compared, metric),
    )


def _entry(store: Store, dataset: str, runs: Sequence[tuple[_Run, Any]], tags: Mapping[str, list[str]]) -> Entry:
    values = [one.value for _, one in runs]
    changes = [one.change for _, one in runs if one.change is not None]
    trained = runs[0][0].tuned.summary.get("trained_on") or {}
    several = len(runs) > 1

    def widest(name: str, pick: Any) -> float | None:
        known = [getattr(one, name) for _, one in runs if getattr(one, name) is not None]
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
        evaluations=tuple(str(run.manifest.ref) for run, _ in runs),
    )


def _per_example(store: Store, runs: Sequence[tuple[_Run, Any]], metric: str) -> np.ndarray | None:
    """The metric per example of the target, averaged over seeds; NaN where one was not scored."""
    column = _COLUMNS.get(metric)
    rows: list[np.ndarray] = []
    for run, _ in runs:
        scores = store.part(run.manifest.ref, "scores") if "scores" in run.manifest.parts else pl.DataFrame()
        if column is None or column not in scores.columns:
            return None
        rows.append(scores[column].cast(pl.Float64).fill_null(float("nan")).to_numpy())
    return np.mean(rows, axis=0)


def _compared(entry: Entry, best: Entry, losses: Mapping[str, np.ndarray | None], lower: bool) -> Entry:
    if entry.dataset == best.dataset:
        return entry.model_copy(update={"against_best": "best"})
    own, theirs = losses[entry.dataset], losses[best.dataset]
    if own is None or theirs is None or len(own) != len(theirs):
        return entry.model_copy(update={"against_best": "not comparable example by example"})
    both = ~(np.isnan(own) | np.isnan(theirs))
    if both.sum() < 2:
        return entry.model_copy(update={"against_best": "not comparable example by example"})
    gap = paired_bootstrap(own[both], theirs[both], rng=np.random.default_rng(0))
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


def _apart(boards: Sequence[Board]) -> str:
    """Why runs stand on different boards, or nothing."""
    if len(boards) < 2:
        return ""
    reasons: list[str] = []
    for what, kinds in (
        ("metrics", {board.metric for board in boards}),
        ("evaluation sets", {board.target for board in boards}),
        ("models", {board.model for board in boards}),
        ("training settings", {fingerprint(dict(board.training)) for board in boards}),
    ):
        if len(kinds) > 1:
            reasons.append(f"{len(kinds)} {what}")
    return f"not compared with one another: {', '.join(reasons) or 'unlike evaluations'}" if reasons else ""
