"""The queue of proxy runs: each is durable once measured, a killed queue resumes there, and a flow maps it over its runner."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import polars as pl
from prefect import unmapped
from prefect.context import FlowRunContext
from prefect.futures import as_completed

from methods.mix import AnyMix
from methods.mix._proxies import Job, ProxyMix, told
from schemas.errors import Stopped
from schemas.lineage import DatasetRef, Step
from schemas.method import Once, silent
from storage.calls.stopping import stop_asked
from storage.store import Store
from tasks.bench import Bench, open_store, using
from tasks.columns import pool_for
from tasks.events import Event, emit
from tasks.materialise import step_of
from tasks.runner import placed, uses_gpu
from tasks.stage_task import stage_task

#: Queues of this process by the step they belong to; the pool is read and cut once, not once per run.
_queues: OrderedDict[DatasetRef, list[Job]] = OrderedDict()
_lock = threading.Lock()

#: Proxies that learn at once in this process; Prefect's own pool has no bound unless its settings give one.
_at_once = threading.BoundedSemaphore(os.cpu_count() or 1)


@stage_task("proxy run {number}", "gpu")
def proxy_run(number: int, step: Step, method: AnyMix, bench: Bench) -> str:
    """Measure one entry of the step's queue, unless it is in the store; its words. Refs and configs cross to a worker."""
    job = queue_of(step, method, bench)[number]
    store = open_store(bench)
    tools, _ = using(bench, method, step.stage, silent, str(step.output))
    with _at_once:
        return told(job, job.make(replace(tools, once=stopping(tools.once, store))))


def map_proxy_runs(pool: DatasetRef, method: AnyMix, bench: Bench, target: DatasetRef | None) -> None:
    """Work off the queue of a method that has one, on the task runner of the current flow run, and wait for it.

    Does nothing outside a flow run, for a plan, for a method without proxies, and where the mixture is in the store.
    """
    if bench.dry or not isinstance(method, ProxyMix) or FlowRunContext.get() is None:
        return
    step = step_of("mix", method, inputs_of(pool, target), bench)
    if open_store(bench).lookup(step.output):
        return
    count = len(queue_of(step, method, bench))
    if not count:
        return
    ref = str(step.output)
    emit(Event("start", "mix", f"{method.name}, proxy runs", ref, total=count))
    with placed(on_gpu=uses_gpu(bench.config(need) for need in method.needs)):
        futures = proxy_run.task.map(
            list(range(count)), step=unmapped(step), method=unmapped(method), bench=unmapped(bench)
        )
    for done, future in enumerate(as_completed(list(futures)), start=1):
        emit(Event("progress", "mix", method.name, ref, done=done, total=count, note=future.result()))
    with _lock:
        _queues.pop(step.output, None)


def inputs_of(pool: DatasetRef, target: DatasetRef | None) -> list[tuple[str, DatasetRef]]:
    """The inputs of a mix step, by role."""
    return [("pool", pool), *([("target", target)] if target else [])]


def by_source(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """A pool's sources by name, in order."""
    return {str(s): rows.filter(pl.col("source") == s) for s in rows["source"].unique().sort()}


def queue_of(step: Step, method: AnyMix, bench: Bench) -> list[Job]:
    """The queue of a mix step; the last two are kept in memory."""
    with _lock:
        if step.output not in _queues:
            assert isinstance(method, ProxyMix)
            store, inputs = open_store(bench), dict(step.inputs)
            target = store.pool(inputs["target"]) if "target" in inputs else None
            _queues[step.output] = method.queue(by_source(pool_for(store, inputs["pool"], method)), target)
            while len(_queues) > 2:
                _queues.popitem(last=False)
        return _queues[step.output]


def stopping(once: Once, store: Store) -> Once:
    """``once`` that begins no new measurement after a stop was asked for: Ctrl-C, SIGTERM or a STOP file."""

    def careful(what: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        def unless_stopped() -> Mapping[str, Any]:
            if asked := stop_asked(store.root):
                raise Stopped(
                    f"stopped between two measurements, {asked}; finished ones are kept, run the same command again"
                )
            return make()

        return once(what, unless_stopped)

    return careful
