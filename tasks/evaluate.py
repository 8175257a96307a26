"""Measure a trained model on examples it was not trained on; scores and per-example losses go back into the store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from backends.config import AnyLLM
from methods.measuring.evaluation import FIELD, SCORE_COLUMNS, evaluate
from methods.measuring.preferred import Names, told
from schemas.errors import MissingDataset, UsageError
from schemas.lineage import DatasetRef
from schemas.recipe import Evaluation
from storage.store import Store
from tasks.bench import Bench, using
from tasks.engines import opened
from tasks.events import StepProgress
from tasks.materialise import Work, materialise, put_calls
from tasks.stage_task import stage_task

VERSION = 2

#: Columns of a row's scores, besides those of the metrics themselves.
_PARTS = ("n_tokens", "before_loss", "before_win_reference")


@stage_task("evaluate", "gpu")
def evaluate_model(model: DatasetRef, target: DatasetRef, how: Evaluation, bench: Bench) -> DatasetRef:
    """Metrics of the model a finetune step made, beside the untuned one, with intervals; dense losses on ``target``."""
    judging = "pairwise" in how.metrics
    judge = bench.backends.named("judge") if judging else None
    if judging and judge is None:
        raise UsageError("metric pairwise asks a judge; give `backends: {judge: …}`, or --judge on the command line")

    def compute(work: Work) -> None:
        tuned, untuned = engines_of(work, model)
        rows = work.store.pool(target)
        measured = rows.unique("id", keep="first", maintain_order=True).head(how.max_examples)
        tools, asked = work.using, []
        if judging:
            tools, asked = using(bench, how.pairwise, "evaluate", work.using.progress, str(work.step.output))
            if isinstance(work.using.progress, StepProgress):
                work.using.progress.models = asked
        result = evaluate(
            tuned,
            measured.with_columns(task_of(), *sliced(how.slices)),
            rng=work.rng,
            metrics=how.metrics,
            slices=("source", "task", *(FIELD + name for name in how.slices)),
            baseline=untuned,
            max_new_tokens=how.max_new_tokens,
            progress=work.using.progress,
            sandbox=opened(bench.config("sandbox")) if "pass@k" in how.metrics else None,
            k=how.k,
            samples=how.samples,
            pairwise=how.pairwise,
            judge=tools.judge if judging else None,
            names=Names(judge=name_of(judge), writer=weights_of(work.store, model).base),
        )
        losses = rows.select("id").join(result.examples, on="id", how="left", maintain_order="left")
        parts = [pl.col(c).cast(pl.Float64) for c in (*SCORE_COLUMNS.values(), *_PARTS) if c in losses.columns]
        score = -pl.col("loss") if "loss" in losses.columns else pl.lit(None, pl.Float64)
        work.draft.keep_members(work.store.describe(target))
        work.draft.put("scores", losses.select(score.alias("score"), *parts))
        report = result.report.model_dump(mode="json")
        work.draft.summary = {**report, "model": {"step": str(model), **report["model"]}}
        notes = precision_notes(weights_of(work.store, model), tuned.config.dtype)
        notes += [
            f"{n:,} of {measured.height:,} examples left out: {kind}" for kind, n in result.report.unscored.items()
        ]
        if result.judged is not None:
            work.draft.put("sidecar/verdicts", result.judged.verdicts)
            work.draft.summary |= {"judging": list(result.judged.notes)}
            notes += [line for note in result.judged.notes for line in told(note)]
            work.draft.run = {**work.draft.run, **put_calls(work.draft, asked)}
        if notes:
            work.draft.summary |= {"notes": notes}
        work.draft.nondeterministic = True

    return materialise(
        "evaluate",
        _identity(how),
        [("model", model), ("pool", target)],
        bench,
        compute,
        backends={"judge": dict(judge.identity())} if judge is not None else None,
    )


def _identity(how: Evaluation) -> Mapping[str, Any]:
    """What decides the figures; settings of metrics that are not asked for are left out."""
    unused = {"target", "pairwise", "harness"} | (set() if "pass@k" in how.metrics else {"k", "samples"})
    unused |= set() if how.slices else {"slices"}
    found = {"stage": "evaluate", "version": VERSION, **how.model_dump(mode="json", exclude=unused)}
    return {**found, "pairwise": how.pairwise.identity()} if "pairwise" in how.metrics else found


def name_of(config: Any) -> str:
    """What an engine's config calls its model; the engine's own name where it has none."""
    return str(getattr(config, "model", "") or getattr(config, "backend", ""))


def task_of() -> pl.Expr:
    """The task that a row of several tasks names in its fields, so that each gets figures of its own; else null."""
    return pl.col("extra").str.json_path_match("$.task").alias("task")


def sliced(names: Sequence[str]) -> list[pl.Expr]:
    """A column for each named field of the original rows, as text; null where a row has none."""
    return [pl.col("extra").str.json_path_match(f"$['{name}']").alias(FIELD + name) for name in names]


@dataclass(frozen=True)
class TrainedWeights:
    """Where a trained model lies: ``base`` is the model it was made from, ``adapter`` says that only an adapter is here.

    ``base_held_in`` says how the base was held while the adapter learned, where that was not as its files hold it.
    """

    folder: Path
    base: str
    adapter: bool
    base_held_in: str = ""


def weights_of(store: Store, model: DatasetRef) -> TrainedWeights:
    """The weights that a finetune step made; ``UsageError`` for another step, ``MissingDataset`` where they are gone."""
    manifest = store.describe(model)
    if manifest.step.stage != "finetune":
        raise UsageError(f"{model} is no trained model; give the ref of a finetune step (`provender ls --all`)")
    folder = store.root / "models" / str(model).replace("@", "-")
    if not folder.is_dir():
        raise MissingDataset(f"the weights of {model} are gone from {folder}; run the finetune step again")
    name = base_model(manifest.summary, manifest.step.backends["train"])
    return TrainedWeights(folder, name, (folder / "adapter_model.safetensors").is_file(), _base_held_in(folder))


def precision_notes(weights: TrainedWeights, dtype: str) -> list[str]:
    """What to know about figures of an adapter that learned over another base than the one it is measured over."""
    if not weights.base_held_in:
        return []
    return [f"the adapter was trained over the base in {weights.base_held_in} and measured over the base in {dtype}"]


def engines_of(work: Work, model: DatasetRef) -> tuple[Any, Any]:
    """The trained model and the one it started from, opened."""
    weights = weights_of(work.store, model)
    choose: TypeAdapter[Any] = TypeAdapter(AnyLLM)
    at = str(weights.folder)
    trained = {"model": weights.base, "adapter": at} if weights.adapter else {"model": at}
    tuned = choose.validate_python({"backend": "transformers", **trained})
    untuned = choose.validate_python({"backend": "transformers", "model": weights.base})
    return tuned.open(), untuned.open()


def _base_held_in(folder: Path) -> str:
    try:
        known = json.loads((folder / "training.json").read_text("utf-8"))
    except (OSError, ValueError):  # another program trained, and says nothing about it
        return ""
    return str(known.get("base_held_in") or "")


def base_model(summary: Any, identity: Any) -> str:
    """Name of the model that was fine-tuned, as the trainer's config had it."""
    name = summary.get("base_model") or identity.get("model")
    if not isinstance(name, str):
        raise UsageError(
            "the trainer noted no base model, so there is nothing to compare with; it was not trained by trl"
        )
    return name
