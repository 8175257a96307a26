"""Does memory stay flat? Many calls through cache and ledger, scripted in this process and over HTTP.

    python -m benchmarks leaks        (python -m benchmarks.leaks [--scripted 200000] [--http 20000])

Every call is another prompt; a step asks 2,000 of them and takes its calls for the lineage, as a stage does. Memory is
what the process holds (RSS) after each tenth; growth is that from the second tenth, when everything is warm, to the last.
"""

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from backends.llm.openai import OpenAI
from backends.llm.scripted import Scripted
from backends.protocols import Request, Sampling
from benchmarks._server import Server
from storage.calls import CachedLLM, CallCache

STEP = 2000


def watched(name: str, engine: Any, count: int) -> None:
    """Ask ``count`` prompts in steps and print what the process held after each tenth."""
    held: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = CallCache(Path(folder) / "calls.sqlite")
        budget = cache.budget("run", "generate", max_tokens=10**12)
        llm = CachedLLM(engine, cache, budget)
        began, done = time.perf_counter(), 0
        for start in range(0, count, STEP):
            size = min(STEP, count - start)
            replies = llm.generate(
                [Request.ask(f"{name} prompt {start + i}", Sampling(max_tokens=32)) for i in range(size)]
            )
            assert all(reply.ok for reply in replies)
            assert sum(frame.height for frame in llm.taken_batches()) == size
            del replies
            done += size
            if done * 10 // count > len(held):
                gc.collect()
                held.append(psutil.Process().memory_info().rss / 2**20)
        seconds = time.perf_counter() - began
        assert budget.spent().calls == cache.stats()["calls"] == count, "nothing is lost, nothing is counted twice"
        size_mb = cache.path.stat().st_size / 2**20
        cache.close()
    warm = held[1]
    growth = held[-1] - warm
    print(
        f"{name}: {count:,} calls in {seconds:.0f} s ({count / seconds:.0f}/s); held {' '.join(f'{one:.0f}' for one in held)} MiB; "
        f"from the second tenth {growth:+.1f} MiB ({growth / warm:+.1%}), {growth * 2**20 / (0.8 * count):+.0f} bytes a call; "
        f"cache file {size_mb:.0f} MiB, {os.cpu_count()} cores",
        flush=True,
    )


def main() -> None:
    """Scripted, then over HTTP."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripted", type=int, default=200_000)
    parser.add_argument("--http", type=int, default=20_000)
    given = parser.parse_args()
    if given.scripted:
        watched("scripted", Scripted(default="yes, certainly").open(), given.scripted)
    if given.http:
        with Server(latency=[0.001, 0.002]) as server:
            engine = OpenAI(model="fake", base_url=server.url, concurrency=64).open()
            watched("http", engine, given.http)
            engine.close()


if __name__ == "__main__":
    main()
