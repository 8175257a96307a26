"""The fault table: 400 prompts, concurrency 20, 20 to 50 ms; every loss is one named row, no answer is paid twice."""

import json
import signal
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from backends.llm.openai import OpenAI
from backends.protocols import Reply, Request, Sampling
from schemas.errors import BudgetExceeded
from storage.calls.cached_llm import CachedLLM, CallCache
from tests.backends.llm import _c6_run
from tests.fakes.openai_faults import answer_text
from tests.fakes.openai_server import FakeServer, Faults
from tests.forked import begun

ROWS = 400
CONCURRENCY = 20


@dataclass
class Outcome:
    replies: list[Reply]
    counters: dict[str, Any]
    seconds: float
    failures: Counter[str]


def prompts(count: int = ROWS) -> list[Request]:
    return [Request.ask(f"prompt number {i}", Sampling(max_tokens=64)) for i in range(count)]


def right(request: Request) -> str:
    return answer_text(json.dumps([{"role": t.role, "content": t.content} for t in request.messages]))


def run(faults: Faults, path: Path, **settings: Any) -> Outcome:
    """The table's run, through the cache as a stage would."""
    cache = CallCache(path / "calls.sqlite")
    with FakeServer(faults) as server:
        config = OpenAI(
            **{"model": "fake", "base_url": server.url, "concurrency": CONCURRENCY, "accept_cut_off": False, **settings}
        )
        engine = config.open()
        began = time.monotonic()
        replies = CachedLLM(engine, cache).generate(prompts())
        seconds = time.monotonic() - began
        engine.close()
        counters = server.counters()
    cache.close()
    for request, reply in zip(prompts(), replies, strict=True):
        assert not reply.ok or reply.text == right(request), "a reply went to another row"
    return Outcome(replies, counters, seconds, Counter(r.failure for r in replies if r.failure))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(Faults(), tmp_path_factory.mktemp("clean"))


def test_clean_is_one_request_for_one_row(clean: Outcome) -> None:
    assert all(reply.ok for reply in clean.replies)
    assert clean.counters["requests"] == clean.counters["billed"] == ROWS
    assert clean.counters["max_in_flight"] <= CONCURRENCY


def test_rate_limits_server_errors_and_resets_lose_nothing(tmp_path: Path) -> None:
    got = run(Faults(rates={"429": 0.1, "500": 0.05, "reset": 0.03}), tmp_path)
    assert got.counters["injected"].keys() == {"429", "500", "reset"}
    assert not got.failures
    assert got.counters["billed"] == ROWS


def test_spoilt_bodies_cost_at_most_their_own_row_and_have_a_class(tmp_path: Path) -> None:
    faults = Faults(rates={"undecodable": 0.02, "truncated": 0.02, "empty": 0.02, "length": 0.02})
    got = run(faults, tmp_path)
    spoilt = sum(got.counters["injected"].values())
    assert spoilt >= 15
    assert sum(got.failures.values()) <= 8  # a row is lost only when its repeat is spoilt too
    assert set(got.failures) <= {"undecodable", "empty", "cut-off"}
    assert all(reply.text.strip() and reply.finish_reason == "stop" for reply in got.replies if reply.ok)
    assert got.counters["requests"] == ROWS + spoilt - sum(got.failures.values())


def test_a_poisoned_row_is_one_attempt_and_one_loss(tmp_path: Path) -> None:
    got = run(Faults(poison="number 77"), tmp_path)
    assert got.failures == {"refused-by-server": 1}
    assert got.replies[77].attempts == 1
    assert got.counters["requests"] == ROWS


def test_hanging_requests_are_cut_and_sent_again(tmp_path: Path) -> None:
    got = run(Faults(rates={"hang": 0.02}), tmp_path, timeout_seconds=2.0)
    assert got.counters["injected"]["hang"] >= 3
    assert not got.failures


def test_a_storm_of_429_is_ridden_out(tmp_path: Path, clean: Outcome) -> None:
    """How long it takes is `benchmarks/llm.py`'s to say; here: nothing lost, nothing billed twice, no request too many."""
    got = run(Faults(rates={"429": 0.5}), tmp_path)
    assert got.counters["injected"]["429"] >= 300
    assert not got.failures
    assert got.counters["billed"] == ROWS
    assert got.counters["requests"] == ROWS + got.counters["injected"]["429"], "each refusal costs one more request"


def test_a_server_with_little_room_is_not_flooded(tmp_path: Path) -> None:
    """More than six in flight are refused: the pace must find that out instead of sending everything several times."""
    got = run(Faults(capacity=6), tmp_path, concurrency=64)
    assert not got.failures
    assert got.counters["requests"] <= 2 * ROWS


def begin(server: FakeServer, path: Path, said: str = "said") -> BaseProcess:
    """The list's run in a process of its own; what it prints goes into a file beside the cache."""
    return begun(_c6_run.main, server.url, str(path), ROWS, said=path.parent / said)


def billed(server: FakeServer, wanted: int) -> None:
    """Wait until the server was paid so many answers."""
    until = time.monotonic() + 60
    while server.counters()["billed"] < wanted and time.monotonic() < until:
        time.sleep(0.005)


def test_two_kills_repay_at_most_what_was_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with FakeServer(Faults()) as server:
        for wanted in (100, 250):
            process = begin(server, path)
            billed(server, wanted)
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
        begin(server, path).join(60)
        counters = server.counters()
    assert (tmp_path / "said").read_text().strip() == f"ok {ROWS}"
    assert counters["unique"] == ROWS
    assert counters["billed"] - ROWS <= 2 * CONCURRENCY, "more was paid twice than was in flight"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM reservations").fetchone() == (0,)
    lost, calls = connection.execute("SELECT lost_tokens, calls FROM accounts").fetchone()
    connection.close()
    assert calls == ROWS
    assert lost > 0, "what was in flight at the kills counts against the budget"


def test_processes_that_run_the_same_list_share_its_calls_and_a_kill_hands_them_on(tmp_path: Path) -> None:
    """Three at once pay each call once; the one that holds the calls is killed, and another takes over what was left."""
    path = tmp_path / "calls.sqlite"
    CallCache(path).close()
    with FakeServer(Faults()) as server:
        processes = [begin(server, path, f"said {number}") for number in range(3)]
        billed(server, 100)
        connection = sqlite3.connect(path)
        (holder,) = connection.execute("SELECT pid FROM claims GROUP BY pid").fetchone()
        connection.close()
        next(process for process in processes if process.pid == holder).kill()
        for process in processes:
            process.join(60)
        said = [(tmp_path / f"said {number}").read_text().strip() for number in range(3)]
        counters = server.counters()
    assert sorted(said) == ["", f"ok {ROWS}", f"ok {ROWS}"]
    assert counters["unique"] == ROWS
    assert 0 <= counters["billed"] - ROWS <= CONCURRENCY, "more was paid twice than the killed one had in flight"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert connection.execute("SELECT calls FROM accounts").fetchone() == (ROWS,)
    connection.close()


def test_sigterm_drains_what_is_in_flight_and_repays_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with FakeServer(Faults()) as server:
        process = begin(server, path)
        billed(server, 100)
        process.terminate()
        process.join(30)
        assert "Stopped: stopped by SIGTERM" in (tmp_path / "said").read_text()
        again = begin(server, path, "said again")
        again.join(60)
        assert again.exitcode == 0
        assert server.counters()["billed"] == ROWS


def test_a_budget_stops_a_concurrent_run_within_its_ceiling(tmp_path: Path) -> None:
    cache = CallCache(tmp_path / "calls.sqlite")
    with FakeServer(Faults()) as server:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=CONCURRENCY).open()
        budget = cache.budget("run", "generate", max_tokens=3000)
        with pytest.raises(BudgetExceeded, match="ceiling of 3,000 tokens"):
            CachedLLM(engine, cache, budget).generate(prompts())
        sent = server.counters()["requests"]
        spent = budget.spent()
        assert 2800 < spent.tokens <= 3000
        assert spent.calls == sent
        CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=10**9)).generate(prompts())
        engine.close()
        assert server.counters()["billed"] == ROWS
    cache.close()
