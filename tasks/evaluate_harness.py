"""Measure a trained model on benchmarks of lm-evaluation-harness; figures with task versions go into the store."""

from collections.abc import Mapping
from typing import Any

from backends.harness import Harness, Weights
from backends.weights import resolve
from methods.measuring.harness import harness_notes, harness_result
from schemas.identity import fingerprint
from schemas.lineage import DatasetRef
from schemas.recipe import Evaluation
from storage.measured import Measured
from storage.reports.model_card import note_evaluations
from tasks.bench import Bench, open_store
from tasks.evaluate import evaluate_model, precision_notes, weights_of
from tasks.materialise import Work, materialise
from tasks.stage_task import stage_task

VERSION = 2


def evaluate_trained(
    model: DatasetRef, sources: Mapping[str, DatasetRef], how: Evaluation, bench: Bench
) -> list[DatasetRef]:
    """Every evaluation that a recipe's section asks for, in order; the model's card tells them too."""
    done: list[DatasetRef] = []
    if how.target is not None and how.metrics:
        done.append(evaluate_model(model, sources[how.target], how, bench))
    if how.harness is not None:
        done.append(evaluate_harness(model, how.harness, bench))
    if not bench.dry:
        store = open_store(bench)
        note_evaluations(store, model, weights_of(store, model).folder)
    return done


@stage_task("evaluate harness", "gpu")
def evaluate_harness(model: DatasetRef, how: Harness, bench: Bench) -> DatasetRef:
    """Benchmarks of the model a finetune step made, beside the untuned one, which is measured once for all its versions."""
    asked = how.identity()
    identity = {"stage": "evaluate", "version": VERSION, "method": "harness", "harness": asked}

    def compute(work: Work) -> None:
        weights = weights_of(work.store, model)
        run = how.open()

        tuned = Weights("tuned", str(weights.folder))
        if weights.adapter:
            tuned = Weights("tuned", weights.base, weights.folder)
        both: dict[str, Any] = {}

        def with_base() -> Mapping[str, Any]:  # in one start of the harness
            both.update(run.measure([Weights("base", weights.base), tuned], bench.rng_seed, work.using.progress))
            return both["base"]

        base = None
        if how.before:
            settings = {k: v for k, v in asked.items() if k != "before"}
            what = {"harness": settings, "model": resolve(weights.base).identity(), "rng_seed": bench.rng_seed}
            base = Measured(work.store.disk, {})(what, with_base)
        if not both:
            both = run.measure([tuned], bench.rng_seed, work.using.progress)
        result = harness_result(both["tuned"], base, fingerprint, work.rng)
        work.draft.put("sidecar/examples", result.examples)
        work.draft.summary = {
            "model": {"step": str(model)},
            "measured": [one.model_dump(mode="json") for one in result.measured],
            "tasks": dict(result.tasks),
            "lm_eval": asked["lm_eval"],
            "notes": [
                f"lm-evaluation-harness {asked['lm_eval']}",
                *precision_notes(weights, how.dtype),
                *harness_notes(result.tasks, how.limit),
            ],
        }
        work.draft.nondeterministic = True

    return materialise("evaluate", identity, [("model", model)], bench, compute)
