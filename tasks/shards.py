"""A per-example method over a large pool, shard by shard: each finished shard is durable, a killed run resumes there.

Inside a flow run the shards are mapped over the flow's task runner (threads, or Ray when one machine is outgrown); outside
one they run on local threads. Whoever judges a shard first wins: its receipt names the verdicts and the calls.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
from prefect import unmapped
from prefect.context import FlowRunContext

from methods.dedup import AnyDedup
from methods.filter import AnyFilter
from schemas.examples import VERDICTS, conform
from schemas.lineage import DatasetRef, Part, Step
from schemas.method import silent
from storage.draft import write_parquet
from tasks.bench import Bench, calls_of, open_store, using
from tasks.materialise import Work, step_of
from tasks.runner import placed, uses_gpu
from tasks.stage_task import stage_task


@stage_task("{step.stage} shard {number}")
def judge_shard(number: int, step: Step, method: AnyFilter | AnyDedup, bench: Bench) -> dict[str, Any]:
    """Judge one shard of the step's pool and put its receipt; what crosses to a worker is refs and configs."""
    store = open_store(bench)
    pool = dict(step.inputs)["pool"]
    places = store.positions(pool)[number * bench.shard_rows : (number + 1) * bench.shard_rows]
    tools, llms = using(bench, method, step.stage, silent)
    said = method.judge(store.take(pool, places), using=tools, rng=bench.rng(step.method))
    verdicts = conform(said, VERDICTS, f"{step.stage} shard {number}")
    receipt = {"verdicts": write_parquet(store.disk, verdicts).model_dump(mode="json")}
    if llms and (calls := calls_of(llms)).height:
        receipt["calls"] = write_parquet(store.disk, calls).model_dump(mode="json")
    return store.put_shard(step.output, number, receipt)


def shards_of(rows: int, bench: Bench) -> int:
    """How many shards a pool of so many rows has."""
    return -(-rows // bench.shard_rows)


def map_shards(stage: str, pool: DatasetRef, method: AnyFilter | AnyDedup, bench: Bench) -> None:
    """Judge the shards that are not done yet on the task runner of the current flow run, and wait for them.

    Does nothing outside a flow run, for a plan, for a method that must see the whole pool, and for a small pool.
    """
    if bench.dry or not method.per_example or FlowRunContext.get() is None:
        return
    store, step = open_store(bench), step_of(stage, method, [("pool", pool)], bench)
    count = shards_of(store.describe(pool).counts.rows_out, bench)
    if count < 2 or store.lookup(step.output):
        return
    left = sorted(set(range(count)) - set(store.shards(step.output)))
    with placed(on_gpu=uses_gpu(bench.config(need) for need in method.needs)):
        futures = judge_shard.task.map(left, step=unmapped(step), method=unmapped(method), bench=unmapped(bench))
    for future in futures:
        future.result()


def judged_in_shards(work: Work, rows: int, method: AnyFilter | AnyDedup) -> pl.DataFrame:
    """Verdicts for the whole pool: finished shards are read back, the others judged here on local threads."""
    count = shards_of(rows, work.bench)
    done = work.store.shards(work.step.output)
    left = [number for number in range(count) if number not in done]
    with ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="shard") as pool:
        judged = pool.map(lambda number: judge_shard.fn(number, work.step, method, work.bench), left)
        for finished, (number, receipt) in enumerate(zip(left, judged, strict=True), start=len(done) + 1):
            done[number] = receipt
            work.using.progress(finished, count, "shards")
    calls = [read(work, done[n]["calls"]) for n in range(count) if "calls" in done[n]]
    if calls:
        together = pl.concat(calls, how="diagonal")  # a shard of an older release may lack a column
        work.draft.put("calls", together.unique("key", keep="first", maintain_order=True))
    return pl.concat([read(work, done[n]["verdicts"]) for n in range(count)])


def read(work: Work, part: Mapping[str, Any]) -> pl.DataFrame:
    """A part that a receipt names."""
    return pl.read_parquet(work.store.disk.local(Part.model_validate(part).sha256))
