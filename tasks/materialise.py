"""Where a stage meets the store: look up, compute, check, commit. Imports no Prefect, so it is tested without a server."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from schemas.errors import ProvenderError, Stopped
from schemas.lineage import DatasetRef, Manifest, Step
from schemas.method import Method, Using
from storage.calls.cached_llm import CachedLLM
from storage.calls.stopping import stop_asked
from storage.draft import Draft
from storage.store import Store
from tasks.bench import Bench, calls_of, open_store, using
from tasks.events import Event, StepProgress, emit


@dataclass
class Work:
    """What a stage has in its hands while it computes."""

    bench: Bench
    store: Store
    step: Step
    draft: Draft
    using: Using
    rng: np.random.Generator
    inputs: Mapping[str, DatasetRef]


@dataclass(frozen=True)
class Planned:
    """One step as ``plan`` sees it."""

    step: Step
    manifest: Manifest | None  # None: it will run


#: Steps met by a dry bench, in order, by run id.
planned: dict[str, list[Planned]] = {}


def materialise(
    stage: str,
    method: Method | Mapping[str, Any],
    inputs: Sequence[tuple[str, DatasetRef]],
    bench: Bench,
    compute: Callable[[Work], None],
    *,
    content: Mapping[str, str] | None = None,
    backends: Mapping[str, Any] | None = None,
    also: Mapping[str, Any] | None = None,
) -> DatasetRef:
    """The ref of this step's result, computed only if no earlier run finished it.

    ``inputs`` are (role, ref) in order; ``content`` holds digests of outside bytes; ``backends`` adds identities of
    engines that are not in the bench (a trainer); ``also`` adds fields to the method's identity (the pool's name).
    A dry bench only notes the step.
    """
    step = step_of(stage, method, inputs, bench, content=content, backends=backends, also=also)
    store = open_store(bench)
    done = store.lookup(step.output)
    if bench.dry:
        planned.setdefault(bench.run_id, []).append(Planned(step, done))
        return step.output
    if asked := stop_asked(store.root):
        raise Stopped(f"stopped before {stage}, {asked}; finished steps are kept, run the same command again to go on")
    what = str(step.method.get("method", step.method.get("source", stage)))
    if done:
        emit(Event("reused", stage, what, str(done.ref), counts=counts_of(done)))
        return done.ref
    return _run(stage, what, method, step, store, bench, compute)


def step_of(
    stage: str,
    method: Method | Mapping[str, Any],
    inputs: Sequence[tuple[str, DatasetRef]],
    bench: Bench,
    *,
    content: Mapping[str, str] | None = None,
    backends: Mapping[str, Any] | None = None,
    also: Mapping[str, Any] | None = None,
) -> Step:
    """What ``materialise`` would compute; its ``output`` is where the result lives."""
    needs = method.needs if isinstance(method, Method) else frozenset[str]()
    identity = {**(method.identity() if isinstance(method, Method) else method), **(also or {})}
    return Step(
        stage=stage,
        method=identity,
        inputs=tuple(inputs),
        backends={**bench.identities(needs), **(backends or {})},
        rng_seed=bench.rng_seed,
        content=dict(content or {}),
    )


def _run(
    stage: str,
    what: str,
    method: Method | Mapping[str, Any],
    step: Step,
    store: Store,
    bench: Bench,
    compute: Callable[[Work], None],
) -> DatasetRef:
    started, clock = datetime.now(UTC), time.perf_counter()
    emit(Event("start", stage, what, str(step.output)))

    progress = StepProgress(stage, what, str(step.output))
    llms: list[CachedLLM] = []
    tools = Using(progress=progress)
    if isinstance(method, Method):
        tools, llms = using(bench, method, stage, progress, str(step.output))
        progress.models = llms
    draft = store.draft(step)
    work = Work(bench, store, step, draft, tools, bench.rng(step.method), dict(step.inputs))
    try:
        compute(work)
        cost = put_calls(draft, llms) if llms else {}
        draft.run = {
            **draft.run,
            "run_id": bench.run_id,
            "started_at": started.isoformat(timespec="milliseconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "cores": os.cpu_count(),
            **cost,
        }
        manifest = store.commit(draft)
    except ProvenderError as error:
        emit(Event("failed", stage, what, str(step.output), note=str(error).splitlines()[0]))
        raise
    emit(Event("done", stage, what, str(manifest.ref), counts=counts_of(manifest), seconds=time.perf_counter() - clock))
    return manifest.ref


def put_calls(draft: Draft, llms: Sequence[CachedLLM]) -> dict[str, Any]:
    """Store the calls a method made beside its rows; their tokens and cost as figures for the manifest's ``run``.

    An unknown price stays null: a sum over calls of which one has no price is null too.
    """
    calls = calls_of(llms)
    if calls.height:
        draft.put("calls", calls)
    paid = calls.filter(~calls["cached"])
    return {
        "calls": calls.height,
        "calls_paid": paid.height,
        "prompt_tokens": int(paid["prompt_tokens"].sum()),
        "completion_tokens": int(paid["completion_tokens"].sum()),
        "cost_usd": None if paid["cost_usd"].null_count() else float(paid["cost_usd"].sum()),
    }


def counts_of(manifest: Manifest) -> dict[str, int]:
    """The figures a line about a step shows."""
    counts = manifest.counts
    return {
        "kept": sum(i.kept for i in counts.inputs),
        "rejected": sum(i.rejected for i in counts.inputs),
        "edited": sum(i.edited for i in counts.inputs),
        "quarantined": sum(i.quarantined for i in counts.inputs),
        "created": counts.created,
        "refused": counts.refused,
        "repeats": counts.repeats,
        "rows_out": counts.rows_out,
    }
