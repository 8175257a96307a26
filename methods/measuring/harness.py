"""From what lm-evaluation-harness wrote to our figures: one line per task and metric, with intervals over examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from methods.measuring.evaluation import bootstrap, interval
from schemas.training import Measured

#: A row per example, task and metric; ``before`` is the untuned model's figure on the same example.
EXAMPLE_COLUMNS: Mapping[str, Any] = {
    "metric": pl.String,  # as in the report: task/metric
    "doc_id": pl.Int64,
    "doc": pl.String,  # hashes of the example and its target, as the harness gives them
    "value": pl.Float64,
    "before": pl.Float64,
}

_Z = 1.959964  # of a 95 % interval from a standard error


@dataclass(frozen=True)
class HarnessResult:
    """``measured``: one per task and metric; ``examples``: `EXAMPLE_COLUMNS`; ``tasks``: by the metric's name what a
    comparison must share (task, version, shots, dataset, digest of its examples) and which way is better.
    """

    measured: tuple[Measured, ...]
    examples: pl.DataFrame
    tasks: Mapping[str, Mapping[str, Any]]


def harness_result(
    tuned: Mapping[str, Any], base: Mapping[str, Any] | None, digest: Any, rng: np.random.Generator
) -> HarnessResult:
    """Figures of a result (``tasks`` by name, see ``backends/_harness_program.py``), beside the untuned model's.

    Where the harness's figure is the mean over examples the interval is a bootstrap over them, paired for the change;
    else (perplexity, F1 over a corpus, groups) it is the harness's standard error times 1.96, and the change has none.
    ``digest`` gives one text for a list of texts.
    """
    measured: list[Measured] = []
    frames: list[pl.DataFrame] = []
    tasks: dict[str, Mapping[str, Any]] = {}
    for task, one in tuned["tasks"].items():
        other = (base or {"tasks": {}})["tasks"].get(task)
        for key in sorted(one["metrics"]):
            metric, _, filtered = key.partition(",")
            value = _number(one["metrics"][key])
            if "_stderr" in metric or value is None:
                continue
            name = f"{task}/{metric}" + ("" if filtered == "none" else f",{filtered}")
            rows = _examples(one, other, metric, filtered)
            before = _number(other["metrics"].get(key)) if other else None
            error = _number(one["metrics"].get(f"{metric}_stderr,{filtered}"))
            found = Measured(
                metric=name, examples=rows.height or int(one.get("sample_len") or 0), value=value, before=before
            )
            measured.append(_with_intervals(found, rows, error, rng))
            frames.append(rows.select(pl.lit(name).alias("metric"), pl.all()))
            tasks[name] = {
                "task": task,
                "version": one["version"],
                "num_fewshot": one["num_fewshot"],
                "dataset": one["dataset"],
                "examples": digest(rows["doc"].to_list()),
                "higher_is_better": one["higher_is_better"].get(metric, True),
            }
    empty = pl.DataFrame(schema=dict(EXAMPLE_COLUMNS))
    return HarnessResult(tuple(measured), pl.concat([empty, *frames]), tasks)


def _examples(one: Mapping[str, Any], other: Mapping[str, Any] | None, metric: str, filtered: str) -> pl.DataFrame:
    """Both models' figures per example, in the harness's order; null before where an example is not the same."""
    ours = _figures(one, metric, filtered)
    theirs = {(doc_id, doc): value for doc_id, doc, value in (_figures(other, metric, filtered) if other else ())}
    rows = [(doc_id, doc, value, theirs.get((doc_id, doc))) for doc_id, doc, value in ours]
    schema = {name: kind for name, kind in EXAMPLE_COLUMNS.items() if name != "metric"}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _figures(one: Mapping[str, Any], metric: str, filtered: str) -> list[tuple[int, str, float]]:
    return [
        (row["doc_id"], row["doc"], row["values"][metric])
        for row in one["examples"]
        if row["filter"] == filtered and metric in row["values"]
    ]


def _with_intervals(found: Measured, rows: pl.DataFrame, error: float | None, rng: np.random.Generator) -> Measured:
    """The figure with its intervals: by bootstrap where it is the mean over ``rows``, else by the standard error."""
    value, before = found.value, found.before
    assert value is not None, "a figure without a value is left out"
    if before is not None:
        found = found.model_copy(update={"change": value - before})
    ours = rows["value"].to_numpy()
    if len(ours) and np.isclose(ours.mean(), value, rtol=1e-9, atol=1e-12):
        paired = before is not None and not rows["before"].null_count()
        columns = [ours, rows["before"].to_numpy()] if paired else [ours]
        draws = bootstrap(columns, np.ones(len(ours)), rng)
        low, high = interval(draws[:, 0])
        found = found.model_copy(update={"low": low, "high": high})
        if paired:
            before_low, before_high = interval(draws[:, 1])
            low, high = interval(draws[:, 0] - draws[:, 1])
            found = found.model_copy(
                update={"before_low": before_low, "before_high": before_high, "change_low": low, "change_high": high}
            )
    elif error is not None:
        found = found.model_copy(update={"low": value - _Z * error, "high": value + _Z * error})
    return found


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if known else None


def harness_notes(tasks: Mapping[str, Mapping[str, Any]], limit: int | None) -> list[str]:
    """What a reader must know beside the figures: versions, shots, and that a limited run is no published score."""
    told: Sequence[str] = sorted(
        {
            f"{one['task']}: version {one['version']} of the task, {one['num_fewshot'] or 0} examples shown"
            for one in tasks.values()
        }
    )
    limited = [f"the first {limit} examples of each task only: not to be compared with published scores"]
    return [*told, *(limited if limit else [])]
