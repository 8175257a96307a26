"""Does memory stay flat? Many calls through cache and ledger, scripted in this process and over HTTP.

    python -m benchmarks leaks        (python -m benchmarks.leaks [--scripted 200000] [--http 20000] [--lock FILE])

Every call is another prompt; a step asks 2,000 of them and takes its calls for the lineage, as a stage does. Memory is
what the process holds (RSS) after each tenth, and beside it its open files and sockets; growth is that from the second
tenth, when everything is warm, to the last. With ``--lock``, for machines that are shared, that file's lock is held while
it works, and let go between two steps every four minutes.
"""

import argparse
import fcntl
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
from storage.calls.cached_llm import CachedLLM, CallCache

STEP = 2000
TURN_SECONDS = 240.0


class Turns:
    """Holds a lock file for at most a turn at a time."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a") if path else None
        self.waited_seconds = 0.0
        self._take()

    def between(self) -> None:
        """Between two steps: let others at the machine when the turn is over."""
        if self._file is not None and time.monotonic() - self._since > TURN_SECONDS:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            time.sleep(1.0)
            self._take()

    def _take(self) -> None:
        began = time.monotonic()
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._since = time.monotonic()
        self.waited_seconds += self._since - began


def watched(name: str, engine: Any, count: int, turns: Turns) -> None:
    """Ask ``count`` prompts in steps and print what the process held after each tenth."""
    held: list[float] = []
    files: list[int] = []
    us = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        cache = CallCache(Path(folder) / "calls.sqlite")
        budget = cache.budget("run", "generate", max_tokens=10**12)
        llm = CachedLLM(engine, cache, budget)
        began, done, waited, cpu = time.perf_counter(), 0, turns.waited_seconds, time.process_time()
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
                held.append(us.memory_info().rss / 2**20)
                files.append(us.num_fds())
            turns.between()
        seconds = time.perf_counter() - began - (turns.waited_seconds - waited)
        cpu = time.process_time() - cpu
        assert budget.spent().calls == cache.stats()["calls"] == count, "nothing is lost, nothing is counted twice"
        size_mb = cache.path.stat().st_size / 2**20
        cache.close()
    warm = held[1]
    growth = held[-1] - warm
    print(
        f"{name}: {count:,} calls in {seconds:.0f} s ({count / seconds:.0f}/s); held {' '.join(f'{one:.0f}' for one in held)} MiB; "
        f"from the second tenth {growth:+.1f} MiB ({growth / warm:+.1%}), {growth * 2**20 / (0.8 * count):+.0f} bytes a call; "
        f"open files {' '.join(map(str, files))}; cache file {size_mb:.0f} MiB, {size_mb * 2**20 / count:.0f} bytes a call; "
        f"{cpu / count * 1e3:.2f} ms of CPU a call, {os.cpu_count()} cores",
        flush=True,
    )


def main() -> None:
    """Scripted, then over HTTP."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripted", type=int, default=200_000)
    parser.add_argument("--http", type=int, default=20_000)
    parser.add_argument("--lock", type=Path, help="take turns with others who hold this file's lock")
    given = parser.parse_args()
    turns = Turns(given.lock)
    if given.scripted:
        watched("scripted", Scripted(default="yes, certainly").open(), given.scripted, turns)
    if given.http:
        with Server(latency=[0.001, 0.002]) as server:
            engine = OpenAI(model="fake", base_url=server.url, concurrency=64).open()
            watched("http", engine, given.http, turns)
            engine.close()


if __name__ == "__main__":
    main()
