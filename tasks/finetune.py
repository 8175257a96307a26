"""Train on exactly one published version: here, on another work pool, or by an event. The gate stands before each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound

from schemas.errors import BackendError, EngineDown, GateClosed, UsageError
from schemas.gate import Check, Gate
from schemas.lineage import DatasetRef, Manifest
from schemas.recipe import Finetuning, Recipe
from schemas.training import TrainedOn
from schemas.union import tag_of
from storage.calls.stopping import stop_asked
from storage.files.places import address
from storage.questions.show import tags_of
from storage.store import Store
from tasks.bench import Bench, open_store
from tasks.events import Event, emit
from tasks.gate import must_be_open, outdated
from tasks.materialise import Work, materialise
from tasks.own_server import standing_server
from tasks.stage_task import stage_task

VERSION = 1


def trigger_finetune(dataset: DatasetRef, recipe: Recipe, bench: Bench) -> DatasetRef | None:
    """Start the recipe's training; the model's ref, or None when nobody waits for it."""
    how = recipe.finetune
    assert how is not None, "curate asks for this only when the recipe has `finetune:`"
    if how.trigger == "inline" or bench.dry:
        return finetune(dataset, how, bench, recipe.name)
    checked(open_store(bench), dataset, how)
    if not standing_server():
        raise EngineDown(
            f"finetune.trigger: {how.trigger} needs a Prefect server that stays, and none is known; start one with "
            "`provender up --all` and run again (what is done is reused), or set finetune.trigger to inline"
        )
    parameters = {
        "dataset": str(dataset),
        "how": how.model_copy(update={"trigger": "inline"}).model_dump(mode="json"),
        "store": address(bench.store),
        "recipe": recipe.name,
        "rng_seed": bench.rng_seed,
    }
    if how.trigger == "event":
        emit_event(
            event="provender.dataset.published",
            resource={"prefect.resource.id": f"provender.dataset.{recipe.name}", "prefect.resource.name": recipe.name},
            payload=parameters,
        )
        emit(Event("note", "finetune", "event", note="provender.dataset.published emitted; an automation picks it up"))
        return None
    try:
        run = run_deployment(how.deployment, parameters=parameters, timeout=None if how.wait else 0)
    except ObjectNotFound:
        raise UsageError(
            f"finetune.deployment: there is no {how.deployment!r} at {standing_server()}; `provender deploy` registers "
            "those of prefect.yaml"
        ) from None
    emit(Event("note", "finetune", how.deployment, note=f"flow run {run.name} ({run.id})"))  # type: ignore[union-attr]
    if not how.wait:
        return None
    if not run.state or not run.state.is_completed():  # type: ignore[union-attr]
        raise BackendError(f"{how.deployment}: flow run {run.name} ended as {run.state}; see its logs in Prefect")  # type: ignore[union-attr]
    return finetune(dataset, how.model_copy(update={"trigger": "inline"}), bench, recipe.name)


@stage_task("finetune {how.by.backend}", "gpu")
def finetune(dataset: DatasetRef, how: Finetuning, bench: Bench, recipe: str = "") -> DatasetRef:
    """The model trained on the published ``dataset``; its manifest holds metrics, history and where the weights are.

    The gate is asked also where the model is there already: what one person opened it for is not open to everybody.
    """
    gate = None if bench.dry else checked(open_store(bench), dataset, how)
    identity = {"stage": "finetune", "version": VERSION, "method": tag_of(type(how.by), "backend")}

    def compute(work: Work) -> None:
        assert gate is not None, "a dry bench computes nothing"
        manifest = work.store.describe(dataset)
        folder = work.store.root / "models" / str(work.step.output).replace("@", "-")
        trainer: Any = how.by.open()
        with train_file(work.store, dataset) as path:
            done = trainer.train(
                path,
                folder,
                rng_seed=bench.rng_seed,
                about=about(work.store, manifest, recipe, gate),
                progress=stoppable(work),
            )
        history = [{k: v for k, v in entry.items() if isinstance(v, int | float)} for entry in done.history]
        if history:
            work.draft.put("sidecar/history", pl.DataFrame(history, infer_schema_length=None))
        work.draft.nondeterministic = True
        work.draft.summary = {
            "output_dir": str(done.output_dir),
            "base_model": getattr(how.by, "model", None),
            "metrics": dict(done.metrics),
            "history": history,
            "files": list(done.files),
            "gate": {"status": gate.status, **gate.model_dump(mode="json")},
            "trained_on": {"dataset": str(dataset), "digest": manifest.digest, "examples": manifest.counts.rows_out},
        }

    ref = materialise(
        "finetune", identity, [("dataset", dataset)], bench, compute, backends={"train": how.by.identity()}
    )
    if gate and gate.status == "overridden":
        told = recorded_with(open_store(bench).describe(ref), gate)
        emit(Event("note", "finetune", str(identity["method"]), str(ref), note=told))
    return ref


def recorded_with(model: Manifest, gate: Gate) -> str:
    """What the model says about its gate; a model that was there already keeps the reason it was trained for."""
    kept = Gate(checks=tuple(Check.model_validate(c) for c in model.summary["gate"]["checks"]))
    if kept.says == gate.says:
        return f"gate overridden: {gate.says}"
    return f"it was trained before, and keeps what it was trained with, not the reason given now: {kept.says}"


def stoppable(work: Work) -> Callable[[int, int, str], None]:
    """The step's progress; when a stop was asked for, the trainer is interrupted, which keeps its last checkpoint.

    What a trainer says before its first step are the warnings of its pre-flight report: they stay in sight.
    """

    def progress(done: int, total: int, note: str = "") -> None:
        if not done and note:
            emit(Event("note", "finetune", "pre-flight:", note=note))
        else:
            work.using.progress(done, total, note)
        if stop_asked(work.store.root):
            raise KeyboardInterrupt

    return progress


def checked(store: Store, dataset: DatasetRef, how: Finetuning) -> Gate:
    """The dataset's gate with the recipe's written exceptions applied; ``GateClosed`` if it stays shut.

    ``UsageError`` where the dataset is a curriculum and the training would shuffle it.
    """
    manifest = store.describe(dataset)
    stored = manifest.summary.get("gate")
    if not stored:
        raise GateClosed(
            f"{dataset} is not a published version, so nothing was checked about it; "
            "`provender run` publishes one at its end, `provender publish` does so for any dataset"
        )
    gate = outdated(Gate(checks=tuple(Check.model_validate(c) for c in stored["checks"])), manifest)
    if how.non_commercial_ok:
        gate = Gate(
            checks=tuple(
                c.model_copy(update={"status": "overridden"}) if c.name == "licences" and c.status == "failed" else c
                for c in gate.checks
            )
        )
    if how.override_gate:
        gate = gate.overridden(how.override_gate)
    must_be_open(gate, str(dataset))
    if manifest.summary.get("ordered") and getattr(how.by, "order", "sequential") != "sequential":
        raise UsageError(
            f"{dataset} is a curriculum and this training would shuffle it; set `order: sequential` under `finetune: by`, "
            "or `curriculum: none` in the mixture"
        )
    return gate


def about(store: Store, manifest: Manifest, recipe: str, gate: Gate) -> TrainedOn:
    """What the model's card says about its data; the recipe is the one that published it where none is given."""
    named = tags_of(store, manifest.ref)
    tag = named[-1] if named else None
    recorded = str((tag.recipe or {}).get("name") or "") if tag else ""
    return TrainedOn(
        dataset=str(manifest.ref),
        tag=f"{tag.name}@v{tag.number}" if tag else "",
        digest=manifest.digest,
        recipe=recipe or recorded,
        gate=gate.status,
        gate_reason=gate.says if gate.status == "overridden" else "",
    )


class train_file:
    """The published rows as one Parquet file: the store's own object when there is one, else a joined copy."""

    def __init__(self, store: Store, dataset: DatasetRef) -> None:
        self.store, self.dataset = store, dataset
        self.copy: Path | None = None

    def __enter__(self) -> Path:
        paths = self.store.paths(self.dataset, "train")
        if len(paths) == 1:
            return paths[0]
        self.copy = self.store.root / "tmp" / f"{self.dataset.fingerprint}.train.parquet"
        self.copy.parent.mkdir(exist_ok=True)
        pl.scan_parquet(paths).sink_parquet(self.copy)
        return self.copy

    def __exit__(self, *_: object) -> None:
        if self.copy:
            self.copy.unlink(missing_ok=True)
