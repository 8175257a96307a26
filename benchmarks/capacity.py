"""How much of a model server is kept busy, what a call costs us, and 10,000 calls through a sick server.

    python -m benchmarks capacity        (python -m benchmarks.capacity [--quick] [--only shapes|overhead|faults])

The simulated server has 64 slots; answers take a lognormal time (by default median 0.3 s, mean 0.36 s, one in a hundred
over 1.2 s) and wait in its queue when all slots are taken, as in vLLM. Busy is the server's own count: slot-seconds worked over
slots times the time from the first answer's beginning to the last one's end, so the emptying at the end of every step is
in it: with 64 slots it costs a second or more per step whatever the client does, which is what the perfect client shows.
Each step's prompts are made of the replies of the step before.
"""

import argparse
import heapq
import itertools
import os
import resource
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backends.llm.openai import OpenAI
from backends.protocols import Reply, Request, Sampling
from benchmarks._server import Server
from storage.calls.cached_llm import CachedLLM, CallCache

SLOTS, QUEUE = 64, 64
SIGMA = 0.6
MODELS = ["teacher", "judge"]

Step = Callable[[Sequence[str], str], list[str]]
Span = tuple[float, float]


def shapes(given: argparse.Namespace) -> None:
    """Chain, fan-out, diamond and two models, each as steps that wait for one another."""
    whole, median = given.calls or (2000 if given.quick else 24_000), given.median
    head = f"busy share of {SLOTS} slots, about {whole:,} calls, concurrency {SLOTS + QUEUE}, median {median:g} s"
    print(f"{head}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    makes = {"chain": (chain, 3), "fan-out": (fan_out, 5), "diamond": (diamond, 4), "two models": (two_models, 4)}
    lists = {"chain": [1, 1, 1], "fan-out": [1, 4], "diamond": [1, 2, 1], "two models": [1, 1, 1, 1]}
    for name in given.shapes or makes:
        make, steps_of_rows = makes[name]
        rows = whole // steps_of_rows
        with (
            Server(spread=[median, SIGMA], slots=SLOTS, models=MODELS) as server,
            tempfile.TemporaryDirectory() as folder,
        ):
            cache = CallCache(Path(folder) / "calls.sqlite")
            engines = {
                model: OpenAI(model=model, base_url=server.url, concurrency=SLOTS + QUEUE).open() for model in MODELS
            }
            steps = {model: step(engine, cache) for model, engine in engines.items()}
            began, cpu = time.perf_counter(), time.process_time()
            calls = make(steps, rows)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            counters, spans = server.counters(), server.spans()
            for engine in engines.values():
                engine.close()
            cache.close()
        busy = counters["busy_seconds"] / (SLOTS * counters["span_seconds"])
        assert counters["billed"] == calls == len(spans), "every call is made once"
        parts = split(spans, [rows * size for size in lists[name]])
        best = perfect(parts)
        starts, ends, between = idle(parts)
        print(
            f"  {name:10}  {busy:.1%} busy, a perfect client {best:.1%}: {busy / best:.3f} of it; idle while a step "
            f"starts {starts:.1%}, empties {ends:.1%}, between {between:.1%}; {calls:,} calls in {seconds:.1f} s, "
            f"{calls / seconds:.0f} a second, {cpu / calls * 1e3:.2f} ms of our CPU each, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def split(spans: Sequence[Span], sizes: Sequence[int]) -> list[list[Span]]:
    """The spans of each list of calls: lists wait for one another, so the order of beginning tells them apart."""
    ends = list(itertools.accumulate(sizes))
    return [list(spans[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def perfect(parts: Sequence[Sequence[Span]]) -> float:
    """The busy share of a client that costs nothing: the same answers in the same order, lists one after the other."""
    worked = spanned = 0.0
    for part in parts:
        free = [0.0] * SLOTS
        for began, ended in part:
            worked += ended - began
            heapq.heapreplace(free, free[0] + ended - began)
        spanned += max(free)
    return worked / (SLOTS * spanned)


def idle(parts: Sequence[Sequence[Span]]) -> tuple[float, float, float]:
    """Shares of all slot time that were idle: before a list had filled the slots, after its last call began, and else."""
    begun, until = parts[0][0][0], parts[0][0][0]
    starts = ends = total = 0.0
    for part in parts:
        full, last = part[min(SLOTS, len(part)) - 1][0], part[-1][0]
        over = max(ended for _, ended in part)
        starts += SLOTS * (full - until) - _worked(part, until, full)
        ends += SLOTS * (over - last) - _worked(part, last, over)
        total += SLOTS * (over - until) - _worked(part, until, over)
        until = over
    whole = SLOTS * (until - begun)
    return starts / whole, ends / whole, (total - starts - ends) / whole


def _worked(part: Sequence[Span], since: float, until: float) -> float:
    """Slot-seconds worked in a stretch of time."""
    return sum(max(0.0, min(ended, until) - max(began, since)) for began, ended in part)


def step(engine: object, cache: CallCache) -> Step:
    """A step over an engine: prompts to replies."""

    def ask(texts: Sequence[str], ask: str) -> list[str]:
        replies = CachedLLM(engine, cache).generate(
            [Request.ask(f"{ask}: {text}", Sampling(max_tokens=64)) for text in texts]
        )  # type: ignore[arg-type]
        assert all(reply.ok for reply in replies)
        return [reply.text for reply in replies]

    return ask


def chain(steps: dict[str, Step], rows: int) -> int:
    """Write, criticize, rewrite."""
    texts = [f"row {i}" for i in range(rows)]
    for what in ("write", "criticize", "rewrite"):
        texts = steps["teacher"](texts, what)
    return 3 * rows


def fan_out(steps: dict[str, Step], rows: int) -> int:
    """One question each, then four samples of each."""
    first = steps["teacher"]([f"row {i}" for i in range(rows)], "ask")
    steps["teacher"]([f"{text} #{n}" for text in first for n in range(4)], "answer")
    return 5 * rows


def diamond(steps: dict[str, Step], rows: int) -> int:
    """One step, two beside each other on what it gave, one on both."""
    first = steps["teacher"]([f"row {i}" for i in range(rows)], "write")
    sides: dict[str, list[str]] = {}
    threads = [
        threading.Thread(target=lambda side=side: sides.update({side: steps["teacher"](first, side)}))
        for side in ("left", "right")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps["teacher"]([f"{a} {b}" for a, b in zip(sides["left"], sides["right"], strict=True)], "join")
    return 4 * rows


def two_models(steps: dict[str, Step], rows: int) -> int:
    """A teacher writes, a judge judges, twice; both are models of one server."""
    texts = [f"row {i}" for i in range(rows)]
    for turn in ("first", "second"):
        texts = steps["judge"](steps["teacher"](texts, f"write {turn}"), f"judge {turn}")
    return 4 * rows


def overhead(given: argparse.Namespace) -> None:
    """CPU time of ours per call, client, cache and ledger apart, against a server that answers at once."""
    rows = 1000 if given.quick else 5000
    requests = [Request.ask(f"prompt number {i}", Sampling(max_tokens=64)) for i in range(rows)]

    def measured(ask: Callable[[], list[Reply]]) -> str:
        began, cpu = time.perf_counter(), time.process_time()
        assert len(ask()) == rows
        return (
            f"{(time.process_time() - cpu) / rows * 1e3:.2f} ms CPU, {rows / (time.perf_counter() - began):.0f} calls/s"
        )

    with Server(latency=[0.0, 0.0]) as server, tempfile.TemporaryDirectory() as folder:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=64).open()
        cache = CallCache(Path(folder) / "calls.sqlite")
        llm = CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=10**9))
        print(f"overhead a call, {rows:,} calls, a server that answers at once on the same {os.cpu_count()} cores")
        print(f"  client alone                    {measured(lambda: engine.generate(requests))}")
        print(f"  with durable cache and budget   {measured(lambda: llm.generate(requests))}")
        print(f"  again, from the cache           {measured(lambda: llm.generate(requests))}")
        engine.close()
        cache.close()


def faults(given: argparse.Namespace) -> None:
    """10,000 calls with 5 % 429, 2 % 500, 1 % that never answer, 1 % malformed JSON: nothing lost, nothing counted twice."""
    rows = 1000 if given.quick else 10_000
    rates = {"429": 0.05, "500": 0.02, "hang": 0.01, "undecodable": 0.01}
    requests = [Request.ask(f"prompt number {i}", Sampling(max_tokens=64)) for i in range(rows)]
    with Server(latency=[0.02, 0.05], rates=rates) as server, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.sqlite"
        cache = CallCache(path)
        engine = OpenAI(model="fake", base_url=server.url, concurrency=64, timeout_seconds=2.0).open()
        began = time.perf_counter()
        replies = CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=10**9)).generate(requests)
        seconds = time.perf_counter() - began
        engine.close()
        cache.close()
        counters = server.counters()
        database = sqlite3.connect(path)
        stored, tokens = database.execute(
            "SELECT count(*), sum(prompt_tokens + completion_tokens) FROM calls"
        ).fetchone()
        calls, booked, lost = database.execute(
            "SELECT calls, prompt_tokens + completion_tokens, lost_tokens FROM accounts"
        ).fetchone()
        (left,) = database.execute("SELECT count(*) FROM reservations").fetchone()
        database.close()
    bad = sum(not reply.ok for reply in replies)
    again = counters["billed"] - rows - counters["injected"].get("undecodable", 0)
    print(f"{rows:,} calls through faults {rates}: {rows - bad:,} answered, {bad} lost, {seconds:.1f} s")
    print(
        f"  injected {counters['injected']}; {counters['requests']:,} requests; billed beyond the malformed ones: {again}"
    )
    print(
        f"  stored {stored:,}, booked {calls:,} calls and {booked:,} of {tokens:,} tokens, {lost} lost, {left} reservations left"
    )
    assert (bad, again, stored, calls, booked, lost, left) == (0, 0, rows, rows, tokens, 0, 0), "see the line above"


def main() -> None:
    """Run what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    parser.add_argument("--only", choices=("shapes", "overhead", "faults"))
    parser.add_argument("--median", type=float, default=0.3, help="seconds; a busy machine needs a slower server")
    parser.add_argument("--calls", type=int, help="calls of each shape; few are mostly the emptying of their steps")
    parser.add_argument("--shapes", nargs="+", choices=("chain", "fan-out", "diamond", "two models"))
    given = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    for part in (shapes, overhead, faults):
        if given.only in (None, part.__name__):
            part(given)


if __name__ == "__main__":
    main()
