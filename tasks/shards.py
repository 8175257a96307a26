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
from schemas.recipe_run import SHARD_ROWS
from storage.draft import write_parquet
from storage.store import Store
from tasks.bench import Bench, calls_of, open_store, using
from tasks.columns import columns_for
from tasks.materialise import Work, step_of
from tasks.runner import placed, uses_gpu
from tasks.stage_task import stage_task


@stage_task("{step.stage} shard {number}")
def judge_shard(number: int, step: Step, method: AnyFilter | AnyDedup, bench: Bench) -> dict[str, Any]:
    """Judge one shard of the step's pool and put its receipt; what crosses to a worker is refs and configs."""
    store = open_store(bench)
    pool = dict(step.inputs)["pool"]
    places = store.positions(pool)[number * bench.shard_rows : (number + 1) * bench.shard_rows]
    tools, llms = using(bench, method, step.stage, silent, str(step.output))
    examples = store.take(pool, places, columns_for(method))
    said = method.judge(examples, using=tools, rng=bench.rng(step.method))
    verdicts = conform(said, VERDICTS, f"{step.stage} shard {number}")
    receipt = {"verdicts": write_parquet(store.disk, verdicts).model_dump(mode="json")}
    if llms and (calls := calls_of(llms)).height:
        receipt["calls"] = write_parquet(store.disk, calls).model_dump(mode="json")
    return store.put_shard(step.output, receipt_of(number, bench), receipt)


def shards_of(rows: int, bench: Bench) -> int:
    """How many shards a pool of so many rows has."""
    return -(-rows // bench.shard_rows)


def receipt_of(number: int, bench: Bench) -> int:
    """The number under which a shard's receipt lies: its own, for shards of the usual size.

    Receipts of another size have numbers beyond those, so that a killed run that goes on with other shards takes none for
    what it is not.

    >>> receipt_of(3, Bench(store="s")), receipt_of(3, Bench(store="s", shard_rows=5000))
    (3, 5000000003)
    """
    return number if bench.shard_rows == SHARD_ROWS else bench.shard_rows * 1_000_000 + number


def done_already(store: Store, step: Step, count: int, bench: Bench) -> dict[int, dict[str, Any]]:
    """Receipts of the shards that are finished, by shard."""
    found = store.shards(step.output)
    return {number: found[at] for number in range(count) if (at := receipt_of(number, bench)) in found}


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
    left = sorted(set(range(count)) - set(done_already(store, step, count, bench)))
    with placed(on_gpu=uses_gpu(bench.config(need) for need in method.needs)):
        futures = judge_shard.task.map(left, step=unmapped(step), method=unmapped(method), bench=unmapped(bench))
    for future in futures:
        future.result()


def judged_in_shards(work: Work, rows: int, method: AnyFilter | AnyDedup) -> list[dict[str, Any]]:
    """The receipts of all shards in order: the ones that are not finished are judged here, on local threads."""
    count = shards_of(rows, work.bench)
    done = done_already(work.store, work.step, count, work.bench)
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
    return [done[number] for number in range(count)]


def verdicts_of(work: Work, receipt: Mapping[str, Any]) -> pl.DataFrame:
    """What was said of a finished shard."""
    return read(work, receipt["verdicts"])


def read(work: Work, part: Mapping[str, Any]) -> pl.DataFrame:
    """A part that a receipt names."""
    return pl.read_parquet(work.store.disk.local(Part.model_validate(part).sha256))
