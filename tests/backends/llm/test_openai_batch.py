"""The batch endpoint: everything in files, cheaper, and found again by a run that was killed while it waited."""

import json
import sqlite3
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from backends.llm.openai import OpenAI
from backends.protocols import Reply, Request, Sampling
from schemas.errors import BudgetExceeded, EngineDown
from storage.calls.cached_llm import CachedLLM, CallCache
from tests.backends.llm import _batch_run
from tests.fakes.openai_faults import answer_text
from tests.fakes.openai_server import FakeServer, Faults
from tests.forked import begun

ROWS = 60


def asks(count: int, **sampling: Any) -> list[Request]:
    return [Request.ask(f"prompt number {i}", Sampling(**{"max_tokens": 64, **sampling})) for i in range(count)]


def right(request: Request) -> str:
    return answer_text(json.dumps([{"role": t.role, "content": t.content} for t in request.messages]))


def through(faults: Faults, requests: Sequence[Request], **settings: Any) -> tuple[list[Reply], FakeServer]:
    with FakeServer(faults) as server:
        given = {"model": "fake", "base_url": server.url, "batch": True, "batch_poll_seconds": 0.02, **settings}
        engine = OpenAI(**given).open()
        try:
            return engine.generate(requests), server
        finally:
            engine.close()


def test_each_row_gets_its_own_answer_through_one_batch() -> None:
    replies, server = through(Faults(), asks(ROWS))
    assert [reply.text for reply in replies] == [right(request) for request in asks(ROWS)]
    assert len(server.batches.batches) == 1
    assert server.counters()["billed"] == ROWS


def test_chats_and_continuations_go_to_their_own_addresses() -> None:
    requests = [Request(prompt="once upon"), *asks(2), Request(prompt="a time")]
    replies, server = through(Faults(), requests)
    assert replies[0].text == answer_text(json.dumps("once upon"))
    assert replies[3].text == answer_text(json.dumps("a time"))
    assert {batch["endpoint"] for batch in server.batches.batches.values()} == {
        "/v1/chat/completions",
        "/v1/completions",
    }


def test_many_requests_are_split_and_all_batches_go_on_at_once() -> None:
    replies, server = through(Faults(batch_seconds=1.0), asks(ROWS), batch_requests=20)
    assert all(reply.ok for reply in replies)
    made = list(server.batches.batches.values())
    assert len(made) == 3
    assert max(one["created_at"] for one in made) < min(one["ended_at"] for one in made), "none waited for another"


def test_a_batch_costs_its_factor() -> None:
    prices = {"fake": {"input": 2.0, "output": 10.0, "batch": 0.5}}
    reply = through(Faults(), asks(1), prices=prices)[0][0]
    assert reply.cost_usd == pytest.approx((reply.prompt_tokens * 1.0 + 8 * 5.0) / 1e6)


def test_a_refused_row_costs_only_itself_and_what_passes_goes_into_the_next_batch() -> None:
    replies, server = through(Faults(poison='number 7"', first=1, first_fault="500"), asks(20))
    assert [reply.failure for reply in replies] == ["refused-by-server" if i == 7 else None for i in range(20)]
    assert {reply.attempts for i, reply in enumerate(replies) if i != 7} == {2}
    assert len(server.batches.batches) == 2


def test_what_fails_in_every_batch_has_its_class() -> None:
    replies, server = through(Faults(rates={"503": 1.0}), asks(3))
    assert [(reply.failure, reply.attempts) for reply in replies] == [("server-error", 3)] * 3
    assert len(server.batches.batches) == 3


def test_a_reply_of_the_wrong_shape_is_told_so_in_the_next_batch() -> None:
    schema = '{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"]}'
    faults = Faults(first=1, first_fault="wrong-schema")  # the first attempt of every prompt, so of the mended one too
    replies, server = through(faults, asks(1, json_schema=schema), repairs=2)
    assert (replies[0].failure, replies[0].attempts) == (None, 3)
    assert "does not match its schema" in server.requests[1]["messages"][-1]["content"]


def test_what_an_expired_batch_left_goes_into_the_next() -> None:
    replies, server = through(Faults(batch_expires_after=8), asks(20))
    assert all(reply.ok for reply in replies)
    assert server.counters()["billed"] == 20
    assert len(server.batches.batches) == 3


def test_equal_requests_of_a_list_are_told_apart() -> None:
    replies, _ = through(Faults(), [*asks(2), *asks(2)])
    assert [reply.text for reply in replies] == [right(request) for request in [*asks(2), *asks(2)]]


def test_a_batch_that_the_server_refuses_is_named_with_its_reason() -> None:
    with pytest.raises(EngineDown, match="not to our liking"):
        through(Faults(batch_fails=True), asks(2))


def test_a_server_without_batches_is_told_apart() -> None:
    with FakeServer() as server:
        engine = OpenAI(model="fake", base_url=server.url.replace("/v1", "/other"), batch=True).open()
        with pytest.raises(EngineDown, match="`batch: false`"):
            engine.generate(asks(1))
        engine.close()


def test_a_budget_admits_what_fits_and_pays_nothing_else(tmp_path: Path) -> None:
    cache = CallCache(tmp_path / "calls.sqlite")
    with FakeServer() as server:
        engine = OpenAI(model="fake", base_url=server.url, batch=True, batch_poll_seconds=0.02).open()
        budget = cache.budget("run", "generate", max_tokens=1000)
        with pytest.raises(BudgetExceeded, match="ceiling of 1,000 tokens"):
            CachedLLM(engine, cache, budget).generate(asks(ROWS))
        assert 0 < budget.spent().calls == server.counters()["billed"] < ROWS
        CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=10**7)).generate(asks(ROWS))
        assert server.counters()["billed"] == ROWS
        engine.close()
    cache.close()


def begin(server: FakeServer, path: Path) -> BaseProcess:
    """The list's run in a process of its own; what it prints goes into a file beside the cache."""
    return begun(_batch_run.main, server.url, str(path), ROWS, said=path.parent / "said")


def run_to_its_end(server: FakeServer, path: Path) -> str:
    """The list's run again; its last line."""
    process = begin(server, path)
    process.join(60)
    said = (path.parent / "said").read_text()
    assert process.exitcode == 0, said
    return said.splitlines()[-1]


def kill_while_waiting(server: FakeServer, path: Path) -> None:
    """A run killed as soon as all its batches are made."""
    process = begin(server, path)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (path.exists() and batches_noted(path) == 3):
        time.sleep(0.02)
    process.kill()
    process.join()


def batches_noted(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return sum(bool(json.loads(text)["batch"]) for (text,) in connection.execute("SELECT text FROM pledges"))
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


def test_a_killed_run_finds_its_batches_again_and_pays_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with FakeServer(Faults(batch_seconds=1.0)) as server:
        kill_while_waiting(server, path)
        said = run_to_its_end(server, path)
        assert server.counters()["billed"] == ROWS
        assert len(server.batches.batches) == 3
    assert said == f"ok {ROWS} lost 0", "what the batches held was not booked as lost"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM pledges").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM reservations").fetchone() == (0,)
    assert connection.execute("SELECT calls FROM accounts").fetchone() == (ROWS,)
    connection.close()


def test_a_kill_between_the_batch_and_its_note_pays_nothing_twice(tmp_path: Path) -> None:
    """As if the process had died before it wrote down the batch's id: only the file is known."""
    path = tmp_path / "calls.sqlite"
    with FakeServer(Faults(batch_seconds=0.5)) as server:
        kill_while_waiting(server, path)
        connection = sqlite3.connect(path)
        for name, text in connection.execute("SELECT name, text FROM pledges").fetchall():
            forgotten = json.dumps({**json.loads(text), "batch": ""})
            connection.execute("UPDATE pledges SET text = ? WHERE name = ?", (forgotten, name))
        connection.commit()
        connection.close()
        run_to_its_end(server, path)
        assert server.counters()["billed"] == ROWS
        assert len(server.batches.batches) == 3


def test_a_stop_leaves_the_batch_to_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with FakeServer(Faults(batch_seconds=1.5)) as server:
        process = begin(server, path)
        while process.is_alive() and not (path.exists() and batches_noted(path) == 3):
            time.sleep(0.02)
        process.terminate()
        process.join(30)
        assert "stopped by SIGTERM" in (tmp_path / "said").read_text()
        assert run_to_its_end(server, path) == f"ok {ROWS} lost 0"
        assert server.counters()["billed"] == ROWS


def test_answers_that_another_list_asks_for_are_kept_for_it(tmp_path: Path) -> None:
    """The killed run asked for 60; the next asks for 10 of them only, the one after for all."""
    path = tmp_path / "calls.sqlite"
    with FakeServer(Faults(batch_seconds=0.5)) as server:
        kill_while_waiting(server, path)
        cache = CallCache(path)
        engine = OpenAI(model="fake", base_url=server.url, batch=True, batch_poll_seconds=0.02).open()
        assert all(reply.ok for reply in CachedLLM(engine, cache).generate(asks(10)))
        assert all(reply.ok for reply in CachedLLM(engine, cache).generate(asks(ROWS)))
        assert server.counters()["billed"] == ROWS
        assert cache.pledges.notes() == {}
        engine.close()
        cache.close()
