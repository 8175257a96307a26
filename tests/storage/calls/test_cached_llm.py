"""The call cache: answers durable before use, each call paid once, what passes is never kept."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.llm.scripted import ReplyRule, Scripted
from backends.protocols import Reply, Request, Sampling, Turn
from schemas.errors import CorruptStore, NewerStore, StoreUnwritable
from storage.calls.cached_llm import CALLS, CachedLLM, CallCache, Stored
from storage.calls.keys import call_key, identity_text, request_json
from tests.storage.calls.counting import Counting, asks


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


def test_an_answer_is_paid_once_over_engines_that_are_the_same_model(cache: CallCache) -> None:
    first, second = Counting(), Counting()
    paid = CachedLLM(first, cache).generate(asks("a", "b"))
    again = CachedLLM(second, cache).generate(asks("b", "a"))
    assert [r.text for r in paid] == ["to a", "to b"]
    assert [r.cached for r in paid] == [False, False]
    assert [(r.text, r.cached) for r in again] == [("to b", True), ("to a", True)]
    assert second.asked == []
    assert [r.call for r in again] == [paid[1].call, paid[0].call]
    assert len(paid[0].call) == 16


def test_equal_requests_of_one_list_are_sent_once(cache: CallCache) -> None:
    engine = Counting()
    replies = CachedLLM(engine, cache).generate(asks("a", "b", "a", "a"))
    assert [r.messages[0].content for r in engine.asked] == ["a", "b"]
    assert [r.text for r in replies] == ["to a", "to b", "to a", "to a"]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"index": 1}, {"temperature": 0.5}, {"max_tokens": 9}, {"stop": ("x",)}, {"json_schema": "{}"}],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_sampling_makes_another_call(cache: CallCache, change: dict[str, Any]) -> None:
    engine = Counting()
    llm = CachedLLM(engine, cache)
    llm.generate(asks("a"))
    llm.generate(asks("a", **change))
    assert len(engine.asked) == 2


def test_another_model_or_another_role_makes_another_call() -> None:
    one, other = identity_text({"model": "one"}), identity_text({"model": "other"})
    ask = Request.ask("a")
    keys = {
        call_key(one, ask),
        call_key(other, ask),
        call_key(one, Request(messages=(Turn("system", "a"),))),
        call_key(one, Request(prompt="a")),
    }
    assert len(keys) == 4


@given(st.lists(st.text(st.characters()), min_size=1, max_size=4), st.integers(0, 3))
def test_a_key_depends_on_the_texts_as_they_are_and_can_always_be_made(texts: list[str], index: int) -> None:
    request = Request(messages=tuple(Turn("user", t) for t in texts), sampling=Sampling(index=index))
    key = call_key("{}", request)
    assert key == call_key("{}", request)
    assert key != call_key("{}", Request(messages=(*request.messages, Turn("user", "")), sampling=request.sampling))
    assert json.loads(request_json(request))["messages"] == [["user", t] for t in texts]


def test_texts_that_differ_only_in_unicode_form_are_different_calls() -> None:
    assert call_key("{}", Request.ask("\u00e9")) != call_key("{}", Request.ask("e\u0301"))


PASSING = ["rate-limited", "server-error", "timeout", "connection", "undecodable"]


@pytest.mark.parametrize("failure", PASSING)
def test_failures_that_pass_are_never_kept(cache: CallCache, failure: Any) -> None:
    engine = Counting(Reply(failure=failure, message="later"))
    llm = CachedLLM(engine, cache)
    assert llm.generate(asks("a"))[0].failure == failure
    assert llm.generate(asks("a"))[0].text == "to a"
    assert len(engine.asked) == 2


@pytest.mark.parametrize("failure", ["refused-by-server", "empty", "wrong-schema", "cut-off"])
def test_failures_that_nothing_heals_are_kept_with_their_class(cache: CallCache, failure: Any) -> None:
    engine = Counting(Reply(text="half", failure=failure, message="why", attempts=3))
    llm = CachedLLM(engine, cache)
    llm.generate(asks("a"))
    again = llm.generate(asks("a"))[0]
    assert (again.failure, again.message, again.text, again.attempts, again.cached) == (failure, "why", "half", 3, True)
    assert len(engine.asked) == 1
    assert cache.forget_failures([failure]) == 1
    assert llm.generate(asks("a"))[0].text == "to a"


def test_a_kill_costs_at_most_one_chunk_of_an_engine_that_reports_no_single_replies(cache: CallCache) -> None:
    engine = Counting()
    CachedLLM(engine, cache, chunk=3).generate(asks(*"abcdefgh"))
    assert engine.lists == [3, 3, 2]


def test_what_an_engine_answered_before_it_broke_is_kept(cache: CallCache) -> None:
    class Breaks(Counting):
        def generate(self, requests: Sequence[Request]) -> list[Reply]:
            if self.lists:
                raise RuntimeError("broken")
            return super().generate(requests)

    with pytest.raises(RuntimeError, match="broken"):
        CachedLLM(Breaks(), cache, chunk=2).generate(asks(*"abcd"))
    sound = Counting()
    CachedLLM(sound, cache).generate(asks(*"abcd"))
    assert [r.messages[0].content for r in sound.asked] == ["c", "d"]


def test_the_first_durable_answer_wins_over_a_second_process(cache: CallCache) -> None:
    """Two processes ask the same at once; both must go on with the answer that was stored first."""
    other = CallCache(cache.path)

    class Slow(Counting):
        def generate(self, requests: Sequence[Request]) -> list[Reply]:
            CachedLLM(Counting(Reply(text="theirs")), other).generate(requests)
            return [Reply(text="mine")]

    llm = CachedLLM(Slow(), cache)
    reply = llm.generate(asks("a"))[0]
    other.close()
    assert (reply.text, reply.cached) == ("theirs", True)
    assert llm.taken()["reply"].to_list() == ["theirs"]


def test_an_answer_replaces_a_kept_failure_of_another_process(cache: CallCache) -> None:
    key = b"k" * 16
    cache.put(Stored(key, "generate", "m", "{}", failure="empty"))
    cache.put(Stored(key, "generate", "m", "{}", reply="yes"))
    cache.put(Stored(key, "generate", "m", "{}", reply="too late"))
    cache.flush()
    assert cache.lookup([key])[key].reply == "yes"


def test_the_lineage_gets_each_call_once_in_order_of_first_use(cache: CallCache) -> None:
    llm = CachedLLM(Counting(), cache)
    llm.generate(asks("old"))
    llm.taken()
    llm.generate(asks("b", "old", "b"))
    bad = CachedLLM(Counting(Reply(failure="timeout", attempts=4, finish_reason="error")), cache)
    bad.generate(asks("c"))
    frame = llm.taken()
    assert frame.schema == pl.Schema(dict(CALLS))
    assert frame["reply"].to_list() == ["to b", "to old"]
    assert frame["cached"].to_list() == [False, True]  # "old" was paid for an earlier step
    assert json.loads(frame["request"][0]) == {
        "messages": [["user", "b"]],
        "sampling": {"max_tokens": 256, "temperature": 0.0},
    }
    assert llm.taken().height == 0
    assert llm.taken().schema == pl.Schema(dict(CALLS))
    assert frame["kind"].to_list() == ["generate", "generate"]
    failed = bad.taken()
    assert failed.select("failure", "attempts", "cached").rows() == [("timeout", 4, False)]


def test_a_call_that_was_stored_by_an_earlier_run_is_marked_as_cached_in_the_lineage(cache: CallCache) -> None:
    CachedLLM(Counting(), cache).generate(asks("a"))
    llm = CachedLLM(Counting(), cache)
    llm.generate(asks("a", "b"))
    assert llm.taken()["cached"].to_list() == [True, False]


KEYS = [
    "sk-proj-abcdefghijklmnop0123",
    "hf_abcdefghijklmnopqrst",
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_abcdefghijklmnopqrstuvwx",
    "AIzaabcdefghijklmnopqrstuvwxyz01234",
    "xoxb-1234567890-abcdef",
]


@pytest.mark.parametrize("secret", KEYS, ids=lambda key: key[:4])
def test_no_key_shape_reaches_the_disk(tmp_path: Path, secret: str) -> None:
    cache = CallCache(tmp_path / "calls.sqlite")
    engine = Counting(Reply(text=f"it is {secret}", message=f"Bearer {secret}", failure="cut-off"))
    reply = CachedLLM(engine, cache).generate(asks(f"keep {secret} safe"))[0]
    cache.close()
    assert reply.text == "it is [redacted]"
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in everything
    assert b"keep [redacted] safe" in everything


def test_a_reply_with_half_a_character_is_a_failure_of_its_row(cache: CallCache) -> None:
    reply = CachedLLM(Counting(Reply(text="\ud800")), cache).generate(asks("a"))[0]
    assert (reply.failure, reply.text) == ("undecodable", "")


def test_many_threads_share_a_cache(cache: CallCache) -> None:
    engines = [Counting() for _ in range(4)]
    words = [str(i) for i in range(100)]
    threads = [threading.Thread(target=lambda e=e: CachedLLM(e, cache).generate(asks(*words))) for e in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats()["answers"] == 100


def test_records_are_committed_in_groups(cache: CallCache) -> None:
    """1,000 answers one by one would be 1,000 fsyncs; groups of 64 make it 16, a few more when the writer is idle."""
    statements: list[str] = []
    cache.put(None, lambda connection: connection.set_trace_callback(statements.append))
    for i in range(1000):
        cache.put(Stored(i.to_bytes(16, "big"), "generate", "m", "{}", reply="x"))
    cache.flush()
    assert cache.stats()["answers"] == 1000
    assert 16 <= statements.count("COMMIT") <= 40


def test_an_answer_is_durable_within_moments_without_a_flush(cache: CallCache) -> None:
    cache.put(Stored(b"k" * 16, "generate", "m", "{}", reply="x"))
    until = time.monotonic() + 5
    while not cache.lookup([b"k" * 16]) and time.monotonic() < until:
        time.sleep(0.02)
    assert cache.lookup([b"k" * 16])[b"k" * 16].reply == "x"


def test_a_cache_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(NewerStore, match=r"format 99.*upgrade"):
        CallCache(path)


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    path.write_bytes(b"not a database at all, but long enough to look at" * 20)
    with pytest.raises(CorruptStore, match="move it away"):
        CallCache(path)


def test_a_store_that_cannot_be_written_stops_the_run_before_more_is_paid(tmp_path: Path) -> None:
    """A table that vanished stands for a full disk: the writer's commit fails and says so; nothing more is sent."""
    cache = CallCache(tmp_path / "calls.sqlite")
    engine = Counting()
    llm = CachedLLM(engine, cache, chunk=1)
    llm.generate(asks("a"))
    connection = sqlite3.connect(cache.path)
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON calls BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    connection.close()
    with pytest.raises(StoreUnwritable, match="disk is full"):
        llm.generate(asks("b", "c", "d"))
    assert len(engine.asked) == 2
    cache.close()


def test_watchers_see_every_reply_of_this_process(cache: CallCache) -> None:
    seen: list[str] = []
    shown: list[tuple[int, int]] = []
    llm = CachedLLM(
        Scripted(default="d", rules=(ReplyRule(when="a", reply="x"),)).open(),
        cache,
        on_call=lambda reply: seen.append(reply.text),
        on_progress=lambda done, total, note: shown.append((done, total)),
    )
    llm.generate(asks("a", "b"))
    llm.generate(asks("a", "c"))
    assert seen == ["x", "d", "d"]
    assert shown[-1] == (2, 2)
