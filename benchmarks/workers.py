"""What do two local workers gain on a `per_example` step, and what does a shard cost? Threads and Ray, through Prefect's runners.

One filter over one pool, cut into shards of equal size, mapped by the product's own code: on one and two threads of this
process, and on one and two Ray workers. The baseline is the same filter over the same pool in one piece, without Prefect.
Starting the server and the clusters is not counted. A filter written in Python (`pii`) holds the interpreter's lock, one
that polars computes (`heuristics`) does not: that decides what threads gain.

    python -m benchmarks.workers [--rows 60000] [--shards 12] [--rounds 2] [--without-ray]
"""

import argparse
import logging
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl

from methods.filter.heuristics import Heuristics
from methods.filter.pii import Pii
from schemas.recipe import RecipeSource
from tasks.bench import Bench, open_store, using
from tasks.ingest import ingest
from tasks.shards import map_shards

ROWS = Path(__file__).resolve().parent.parent / "recipes" / "data" / "permissive_instructions.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--without-ray", action="store_true")
    args = parser.parse_args()
    quiet = {
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    os.environ.update({**quiet, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"})
    logging.disable(logging.INFO)
    from prefect.testing.utilities import prefect_test_harness

    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=180):
        bench = Bench(store=Path(folder) / "store", shard_rows=-(-args.rows // args.shards))
        pool = ingest.fn("rows", RecipeSource(path=str(_pool(Path(folder), args.rows)), license="Apache-2.0"), bench)
        print(f"cores {os.cpu_count()}; {args.rows:,} rows, {args.shards} shards, best of {args.rounds} rounds")
        for method in (Heuristics(), Pii()):
            best = _measured(pool, method, bench, args.rounds, not args.without_ray)
            _print(method.name, best, args.shards)


def _pool(folder: Path, rows: int) -> Path:
    """The sample's rows again and again, each with its number, so that all differ."""
    sample = pl.read_ndjson(ROWS)
    whole = pl.concat([sample] * (rows // sample.height + 1)).head(rows).with_row_index("n")
    numbered = whole.with_columns(pl.format("{} ({})", "instruction", "n").alias("instruction")).drop("n")
    numbered.write_ndjson(folder / "rows.jsonl")
    return folder / "rows.jsonl"


def _measured(pool: Any, method: Any, bench: Bench, rounds: int, with_ray: bool) -> dict[str, float]:
    """Seconds of each way, the best of the rounds; the ways take turns. Another rng_seed is another step, so all work is done."""
    runners = {"threads 1": _threads(1), "threads 2": _threads(2)}
    ways = ["whole", *runners, *(["ray 1", "ray 2"] if with_ray else [])]
    best = dict.fromkeys(ways, float("inf"))
    seed = 0
    for _ in range(rounds):
        for way in ways:
            seed += 1
            at = bench.model_copy(update={"rng_seed": seed})
            if way == "whole":
                seconds = _whole(pool, method, at)
            elif way in runners:
                seconds = _mapped(pool, method, at, runners[way])
            else:
                seconds = _on_ray(pool, method, at, int(way[-1]))
            best[way] = min(best[way], seconds)
    return best


def _whole(pool: Any, method: Any, bench: Bench) -> float:
    store = open_store(bench)
    began = time.perf_counter()
    tools, _ = using(bench, method, "filter", lambda *_args, **_known: None)
    method.judge(store.pool(pool), using=tools, rng=bench.rng({}))
    return time.perf_counter() - began


def _mapped(pool: Any, method: Any, bench: Bench, runner: Any) -> float:
    from prefect import flow

    @flow(task_runner=runner, persist_result=False)
    def judged() -> float:
        began = time.perf_counter()
        map_shards("filter", pool, method, bench)
        return time.perf_counter() - began

    return judged()


def _on_ray(pool: Any, method: Any, bench: Bench, workers: int) -> float:
    """On a cluster of its own, warm: its processes have imported what a shard needs before the clock starts."""
    import ray
    from prefect_ray import RayTaskRunner

    with nullcontext(ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)):
        _mapped(pool, method, bench.model_copy(update={"rng_seed": 10_000 + bench.rng_seed}), RayTaskRunner())
        seconds = _mapped(pool, method, bench, RayTaskRunner())
        ray.shutdown()
    return seconds


def _threads(count: int) -> Any:
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=count)


def _print(name: str, best: dict[str, float], shards: int) -> None:
    print(f"\n{name}: in one piece {best['whole']:.2f} s")
    for kind in ("threads", "ray"):
        one, two = best.get(f"{kind} 1"), best.get(f"{kind} 2")
        if one is None or two is None:
            continue
        cost = (one - best["whole"]) / shards * 1000
        print(
            f"{kind:8} 1 worker {one:6.2f} s   2 workers {two:6.2f} s   speed-up {one / two:.2f}   "
            f"over one piece {best['whole'] / two:.2f}   per shard {cost:+.0f} ms"
        )


if __name__ == "__main__":
    main()
