"""What the server says it injected is what the ledger says was met: over real HTTP, through kills and resumes, once each."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.llm._accept import accepted
from backends.llm._rounds import Rounds
from backends.llm.openai import OpenAI
from backends.protocols import Reply, Request, Sampling, ScoreRequest
from schemas.errors import EngineDown
from storage.calls.cached_llm import CachedLLM, CallCache
from storage.calls.troubles import TABLE, Place, Tally, both, counted
from tests.fakes.openai_server import FakeServer, Faults

QUICK = (0.002, 0.005)
ROWS = 300
SCHEMA = json.dumps({"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]})


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


def asks(count: int = ROWS, **sampling: Any) -> list[Request]:
    return [Request.ask(f"prompt number {i}", Sampling(max_tokens=64, **sampling)) for i in range(count)]


def met(path: Path, account: str | None = None) -> dict[str, int]:
    """How often each kind was met, all lines together."""
    told: Counter[str] = Counter()
    for line in counted(path, account) or ():
        told[line.what] += line.times
    return dict(told)


def waited(path: Path, what: str) -> float:
    return sum(line.seconds for line in counted(path) or () if line.what == what)


def asked(cache: CallCache, server: FakeServer, requests: list[Request], **settings: Any) -> CachedLLM:
    """A list of calls of step ``filter@1`` of run ``run``."""
    engine = OpenAI(**{"model": "fake", "base_url": server.url, "accept_cut_off": False, **settings}).open()
    llm = CachedLLM(engine, cache, cache.budget("account", "filter"), run="run", step="filter@1")
    try:
        llm.generate(requests)
    finally:
        engine.close()
    return llm


def test_the_ledger_counts_what_the_server_injected_kind_by_kind(cache: CallCache) -> None:
    rates = {"429": 0.08, "500": 0.03, "503": 0.02, "reset": 0.03, "undecodable": 0.02, "truncated": 0.02}
    rates |= {"no-choices": 0.01, "empty": 0.03, "length": 0.03, "hang": 0.005}
    with FakeServer(Faults(rates=rates, latency=QUICK)) as server:
        asked(cache, server, asks(), timeout_seconds=3.0)
        oracle = server.counters()
    injected = oracle["injected"]
    assert injected.keys() == rates.keys(), "every fault came at least once"
    told = met(cache.path)
    assert told["request"] == oracle["requests"]
    assert told["rate-limited"] == injected["429"]
    assert told["server-error"] == injected["500"] + injected["503"]
    assert told["connection"] == injected["reset"]
    assert told["timeout"] == injected["hang"]
    assert told["undecodable"] == injected["undecodable"] + injected["truncated"] + injected["no-choices"]
    assert (told["empty"], told["cut-off"]) == (injected["empty"], injected["length"])
    repeats = told["repair"] + told["backoff"] + told.get("retry-after", 0)
    assert repeats == oracle["requests"] - ROWS, "each request beyond the first of a call is a repeat or a repair"
    (place,) = {line.place for line in counted(cache.path) or ()}
    assert place == Place("account", "run", "filter", "filter@1")
    assert {line.model for line in counted(cache.path) or ()} == {"fake"}
    assert cache.stats()["met"]["fake"]["rate-limited"]["times"] == injected["429"]


def test_a_reply_of_the_wrong_shape_and_its_repair_are_counted(cache: CallCache) -> None:
    with FakeServer(Faults(rates={"wrong-schema": 0.3}, latency=QUICK)) as server:
        asked(cache, server, asks(40, json_schema=SCHEMA))
        oracle = server.counters()
    told = met(cache.path)
    assert told["wrong-schema"] == oracle["injected"]["wrong-schema"] > 0
    assert told["repair"] == oracle["requests"] - 40 > 0


def test_what_the_server_asked_us_to_wait_is_waited_counted_and_shown_meanwhile(cache: CallCache) -> None:
    notes: list[str] = []
    with FakeServer(Faults(first=2, first_fault="429-seconds", latency=QUICK)) as server:
        engine = OpenAI(model="fake", base_url=server.url).open()
        llm = CachedLLM(engine, cache, on_progress=lambda done, total, note: notes.append(note))
        llm.generate(asks(3))
        engine.close()
    told = met(cache.path)
    assert (told["rate-limited"], told["retry-after"]) == (6, 6)
    assert 6.0 <= waited(cache.path, "retry-after") < 12.0, "six waits of a second, three at once, added up"
    assert "429 1x" in notes[0], "the line goes on while nothing is answered"
    assert any("429 3x" in note for note in notes[1:-1])
    assert "429 6x" in notes[-1]


def test_a_kill_loses_only_what_was_not_written_and_the_run_that_goes_on_counts_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    CallCache(path).close()
    with FakeServer(Faults(rates={"429": 0.2, "500": 0.05})) as server:
        command = [sys.executable, "-m", "tests.backends.llm._c6_run", server.url, str(path), "300"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while server.counters()["billed"] < 120 and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen = -1
        while seen != (seen := server.counters()["requests"]):  # until what was on the wire has come in
            time.sleep(0.5)
        there, before = met(path), server.counters()
        with sqlite3.connect(path) as file:
            answers = file.execute("SELECT count(*) FROM calls").fetchone()[0]
        file.close()
        subprocess.run(command, capture_output=True, timeout=60, check=True)
        after, oracle = met(path), server.counters()
    assert answers <= there["request"], "what led to a stored answer was stored with it"
    assert there["request"] <= before["requests"] + 20, "what twenty slots had begun to send when the process died"
    assert there["rate-limited"] <= before["injected"]["429"]
    assert before["requests"] - there["request"] <= 100, "what was in flight, or was written next"
    assert after["request"] - there["request"] == oracle["requests"] - before["requests"]
    assert after["rate-limited"] - there["rate-limited"] == oracle["injected"]["429"] - before["injected"]["429"]
    assert after["server-error"] - there["server-error"] == oracle["injected"]["500"] - before["injected"]["500"]
    assert {line.place for line in counted(path) or ()} == {Place("run", "run", "generate", "")}


def test_a_run_that_the_server_ends_keeps_what_it_met(cache: CallCache) -> None:
    with FakeServer(Faults(rates={"500": 1.0}, latency=QUICK)) as server:
        with pytest.raises(EngineDown):
            asked(cache, server, asks(4), timeout_seconds=1.0, outage_seconds=1.0, max_attempts=50)
        assert met(cache.path)["server-error"] == server.counters()["injected"]["500"] > 4


def test_calls_that_turn_to_a_second_endpoint_are_counted_for_its_model(cache: CallCache) -> None:
    with FakeServer(Faults(rates={"500": 1.0}, latency=QUICK)) as sick, FakeServer(Faults(latency=QUICK)) as sound:
        spare = {"model": "spare", "base_url": sound.url, "after_failures": 3}
        asked(cache, sick, asks(40), concurrency=4, fallback=spare)
        requests = (sick.counters()["requests"], sound.counters()["requests"])
    told = {(line.model, line.what): line.times for line in counted(cache.path) or ()}
    assert (told["fake", "request"], told["spare", "request"]) == requests
    assert told["fake", "server-error"] == requests[0]
    assert told["spare", "fallback"] == 40
    assert told["fake", "breaker"] == 1
    assert ("spare", "server-error") not in told


def test_scorings_are_counted_too(cache: CallCache) -> None:
    with FakeServer(Faults(rates={"500": 0.3}, latency=QUICK)) as server:
        engine = OpenAI(model="fake", base_url=server.url, scoring="vllm").open()
        CachedLLM(engine, cache).logprobs([ScoreRequest(f"text {i}") for i in range(30)])
        engine.close()
        assert met(cache.path)["server-error"] == server.counters()["injected"]["500"] > 0


def test_lines_of_a_batch_are_counted_like_requests(cache: CallCache) -> None:
    with FakeServer(Faults(rates={"500": 0.2, "wrong-schema": 0.2}, latency=QUICK)) as server:
        asked(cache, server, asks(40, json_schema=SCHEMA), batch=True, batch_poll_seconds=0.05)
        oracle = server.counters()
    told = met(cache.path)
    assert told["request"] == oracle["requests"]
    assert told["server-error"] == oracle["injected"]["500"] > 0
    assert told["wrong-schema"] == oracle["injected"]["wrong-schema"] > 0


def test_a_limit_per_minute_is_time_waited(cache: CallCache) -> None:
    with FakeServer(Faults(latency=QUICK)) as server:
        asked(cache, server, asks(4), requests_per_minute=120)
    assert met(cache.path)["limit"] == 3
    assert 2.0 < waited(cache.path, "limit") <= 3.0, (
        "the second waits half a second, the third one, the fourth one and a half"
    )


def test_a_ledger_of_an_older_release_says_nothing_and_gets_the_table_when_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    assert counted(path) is None
    CallCache(path).close()
    with sqlite3.connect(path) as file:
        file.execute("DROP TABLE troubles")
    file.close()
    assert counted(path) is None
    CallCache(path).close()
    assert counted(path) == []


def test_an_engine_without_a_server_counts_its_replies_and_repairs() -> None:
    class Meter:
        troubles = Tally(Place(), "sprout")

        def deliver(self, position: int, reply: Reply) -> None: ...

    meter: Any = Meter()
    rounds = Rounds(asks(3, temperature=0.7), meter, repairs=1)
    said = {0: ["fine"], 1: ["", "then fine"], 2: ["", ""]}
    while rounds.open:
        for i, request in dict(rounds.open).items():
            rounds.answer(i, accepted(Reply(text=said[i].pop(0)), request, accept_cut_off=True))
    assert [reply.failure for reply in rounds.replies()] == [None, None, "empty"]
    settle = meter.troubles.settle()
    file = sqlite3.connect(":memory:")
    file.execute(TABLE)
    settle(file)
    counts = dict(file.execute("SELECT what, times FROM troubles").fetchall())
    file.close()
    assert counts == {"request": 5, "empty": 3, "repair": 2}


def test_every_count_is_handed_over_once_whoever_counts() -> None:
    tally = Tally(Place("a", "r", "s", "t"), "m", clock=lambda: 0.0)
    file = sqlite3.connect(":memory:", check_same_thread=False)
    file.execute(TABLE)
    lock, stop = threading.Lock(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            if (settle := tally.settle()) is not None:
                with lock:
                    settle(file)

    def count() -> None:
        for _ in range(2000):
            tally.met("rate-limited", seconds=0.5)

    writers = [threading.Thread(target=write) for _ in range(2)]
    counters = [threading.Thread(target=count) for _ in range(3)]
    for thread in [*writers, *counters]:
        thread.start()
    for thread in counters:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    if (last := both(None, tally.settle())) is not None:
        last(file)
    assert file.execute("SELECT times, seconds FROM troubles").fetchall() == [(6000, 3000.0)]
    assert tally.words() == "429 6,000x"
    file.close()


def test_what_lies_between_answers_is_due_after_a_second() -> None:
    now = [10.0]
    tally = Tally(Place(), "m", clock=lambda: now[0])
    assert not tally.due(), "there is nothing to write"
    tally.met("timeout")
    assert tally.due()
    assert tally.settle() is not None
    tally.met("timeout")
    assert not tally.due()
    now[0] += 1.0
    assert tally.due()
