"""Measure a trained model on examples it was not trained on; scores and per-example losses go back into the store."""

from typing import Any

import polars as pl
from pydantic import TypeAdapter

from backends.config import AnyLLM
from methods.evaluation import evaluate
from schemas.errors import MissingDataset, UsageError
from schemas.lineage import DatasetRef
from schemas.recipe import Evaluation
from tasks.bench import Bench
from tasks.engines import opened
from tasks.materialise import Work, materialise
from tasks.stage_task import stage_task

VERSION = 1


@stage_task("evaluate", "gpu")
def evaluate_model(model: DatasetRef, target: DatasetRef, how: Evaluation, bench: Bench) -> DatasetRef:
    """Metrics of the model a finetune step made, beside the untuned one, with intervals; dense losses on ``target``."""
    unused = {"target"} if "pass@k" in how.metrics else {"target", "k", "samples"}
    settings = how.model_dump(mode="json", exclude=unused)
    identity = {"stage": "evaluate", "version": VERSION, **settings}

    def compute(work: Work) -> None:
        tuned, untuned = engines_of(work, model)
        rows = work.store.pool(target)
        result = evaluate(
            tuned,
            rows.unique("id", keep="first", maintain_order=True).head(how.max_examples).with_columns(task_of()),
            rng=work.rng,
            metrics=how.metrics,
            slices=("source", "task"),
            baseline=untuned,
            max_new_tokens=how.max_new_tokens,
            progress=work.using.progress,
            sandbox=opened(bench.config("sandbox")) if "pass@k" in how.metrics else None,
            k=how.k,
            samples=how.samples,
        )
        losses = rows.select("id").join(result.examples, on="id", how="left", maintain_order="left")
        named = {
            "loss": "loss",
            "n_tokens": "n_tokens",
            "before_loss": "before_loss",
            "exact_match": "exact_match",
            "rouge_l": "rouge_l",
            "pass_at_k": "pass_at_k",
        }
        parts = [pl.col(c).cast(pl.Float64).alias(n) for c, n in named.items() if c in losses.columns]
        score = -pl.col("loss") if "loss" in losses.columns else pl.lit(None, pl.Float64)
        work.draft.keep_members(work.store.describe(target))
        work.draft.put("scores", losses.select(score.alias("score"), *parts))
        report = result.report.model_dump(mode="json")
        work.draft.summary = {**report, "model": {"step": str(model), **report["model"]}}
        work.draft.nondeterministic = True

    return materialise("evaluate", identity, [("model", model), ("pool", target)], bench, compute)


def task_of() -> pl.Expr:
    """The task that a row of several tasks names in its fields, so that each gets figures of its own; else null."""
    return pl.col("extra").str.json_path_match("$.task").alias("task")


def engines_of(work: Work, model: DatasetRef) -> tuple[Any, Any]:
    """The trained model and the one it started from, opened."""
    manifest = work.store.describe(model)
    if manifest.step.stage != "finetune":
        raise UsageError(f"{model} is no trained model; give the ref of a finetune step (`provender ls --all`)")
    folder = work.store.root / "models" / str(model).replace("@", "-")
    if not folder.is_dir():
        raise MissingDataset(f"the weights of {model} are gone from {folder}; run the finetune step again")
    base = manifest.step.backends["train"]
    is_adapter = (folder / "adapter_model.safetensors").is_file()
    name = base_model(manifest.summary, base)
    choose: TypeAdapter[Any] = TypeAdapter(AnyLLM)
    trained = {"model": name, "adapter": str(folder)} if is_adapter else {"model": str(folder)}
    tuned = choose.validate_python({"backend": "transformers", **trained})
    untuned = choose.validate_python({"backend": "transformers", "model": name})
    return tuned.open(), untuned.open()


def base_model(summary: Any, identity: Any) -> str:
    """Name of the model that was fine-tuned, as the trainer's config had it."""
    name = summary.get("base_model") or identity.get("model")
    if not isinstance(name, str):
        raise UsageError(
            "the trainer noted no base model, so there is nothing to compare with; it was not trained by trl"
        )
    return name
