"""What did training do to the rows it trained on? Each row's loss before and after, stored with version and model."""

from typing import Any

import polars as pl

from methods.keyed import by_key, drawn_seed, keyed_hashes
from methods.measuring.evaluation import answer_losses
from schemas.errors import BackendError, MissingDataset, UsageError
from schemas.lineage import DatasetRef
from schemas.recipe import Finetuning
from tasks.bench import Bench
from tasks.evaluate import engines_of
from tasks.events import Event, emit
from tasks.materialise import Work, materialise
from tasks.stage_task import stage_task

VERSION = 1

#: Trainers that leave no model which could be asked.
UNASKED = frozenset(("pretend",))


@stage_task("losses of {dataset}", "gpu")
def measure_row_losses(model: DatasetRef, dataset: DatasetRef, how: Finetuning, bench: Bench) -> DatasetRef | None:
    """Loss of the rows of ``dataset`` under the model trained on them and under the one it started from.

    At most ``how.row_losses`` distinct examples are measured, drawn by their ids. The answers' tokens alone count, each
    assistant turn given the turns before it. None where ``row_losses`` is 0 or the trainer makes no model; also, with a
    note in the run, where the model cannot be opened or gives no probabilities: the training stands.
    """
    if not how.row_losses or getattr(how.by, "backend", "") in UNASKED:
        return None
    identity = {"stage": "losses", "method": "losses", "version": VERSION, "examples": how.row_losses}

    def compute(work: Work) -> None:
        tuned, untuned = engines_of(work, model)
        ids = work.store.scan(dataset, "train").select("id").collect().with_row_index("line")
        once = ids.unique("id", keep="first", maintain_order=True)
        drawn = _drawn(once, how.row_losses, drawn_seed(work.rng))
        rows = work.store.scan(dataset, "train").select("id", "messages").with_row_index("line")
        examples = rows.filter(pl.col("line").is_in(drawn["line"].implode())).collect()
        passes = _Passes(work, 2 * examples.height)
        before = answer_losses(untuned, examples, passes)
        after = answer_losses(tuned, examples, passes)
        measured = losses_of(examples["id"], before, after)
        dense = ids.join(measured, on="id", how="left", maintain_order="left").with_columns(
            pl.when(pl.col("tokens").is_not_null())
            .then(pl.col("id").is_first_distinct().cast(pl.Float64))
            .alias("first")
        )
        scores = dense.select(pl.lit(None, pl.Float64).alias("score"), pl.exclude("line", "id", "score"))
        work.draft.keep_members(work.store.describe(dataset))
        work.draft.put("scores", scores)
        work.draft.summary = {
            "examples": once.height,
            "asked": examples.height,
            "base_model": work.store.describe(model).summary.get("base_model"),
            **figures_of(measured, before, after),
        }
        work.draft.nondeterministic = True

    try:
        return materialise("losses", identity, [("model", model), ("pool", dataset)], bench, compute)
    except (BackendError, UsageError, MissingDataset) as error:
        emit(Event("note", "losses", "losses", note=f"the losses of single rows were not measured: {error}"))
        return None


def losses_of(ids: pl.Series, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Per example: ``before``, ``after``, ``change`` (null unless both are there), ``tokens``, ``truncated`` (1 or 0).

    ``before`` and ``after`` are ``answer_losses`` of the same examples; an example that either model could not score has
    no loss and 0 tokens.
    """
    both = before["loss"].is_not_null() & after["loss"].is_not_null()
    frame = pl.DataFrame(
        {
            "id": ids,
            "before": before["loss"].cast(pl.Float64),
            "after": after["loss"].cast(pl.Float64),
            "tokens": after["n_tokens"].cast(pl.Float64),
            "truncated": (before["truncated"] | after["truncated"]).cast(pl.Float64),
            "both": both,
        }
    )
    known = pl.col("both")
    return frame.select(
        "id",
        pl.when(known).then("before").alias("before"),
        pl.when(known).then("after").alias("after"),
        pl.when(known).then(pl.col("after") - pl.col("before")).alias("change"),
        pl.when(known).then("tokens").otherwise(0.0).alias("tokens"),
        "truncated",
    )


def figures_of(measured: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> dict[str, Any]:
    """Counts and means over tokens for the summary; a mean of nothing is null."""
    scored = measured.filter(pl.col("after").is_not_null())
    tokens = float(scored["tokens"].sum())
    failures = pl.coalesce([pl.Series("failure", before["failure"]), pl.Series("failure", after["failure"])])
    classes = pl.select(failures.alias("failure"))["failure"].drop_nulls().value_counts(sort=True)
    return {
        "scored": scored.height,
        "unscored": {str(name): int(count) for name, count in classes.iter_rows()},
        "truncated": int(scored["truncated"].sum()),
        "tokens": int(tokens),
        **{
            name: float((scored[name] * scored["tokens"]).sum()) / tokens if tokens else None
            for name in ("before", "after")
        },
    }


def _drawn(once: pl.DataFrame, most: int, rng_seed: int) -> pl.DataFrame:
    """At most so many examples, the same ones whatever order they stand in."""
    if once.height <= most:
        return once
    return once[by_key(keyed_hashes(once["id"], rng_seed), once["id"])[:most]]


class _Passes:
    """Counts both models' examples into one bar."""

    def __init__(self, work: Work, total: int) -> None:
        self._work, self._total, self._done = work, total, 0

    def __call__(self, count: int, note: str) -> None:
        self._done += count
        self._work.using.progress(self._done, self._total, note)
