"""Single flight: a call in flight in another thread or process of the store is awaited; what the dead left is taken over."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from backends.protocols import Reply, Request, ScoreRequest, TokenLogprobs
from schemas.errors import Stopped
from storage.calls.cached_llm import CachedLLM, CallCache


class Held:
    """An engine whose answers come when the test lets them."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[str] = []
        self.began, self.go = threading.Event(), threading.Event()
        self._fails = fails

    def identity(self) -> dict[str, Any]:
        return {"model": "held"}

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked += [request.messages[0].content for request in requests]
        self.began.set()
        assert self.go.wait(20)
        if self._fails:
            return [Reply(failure="timeout", finish_reason="error") for _ in requests]
        return [Reply(text=f"to {request.messages[0].content}") for request in requests]

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        self.asked += [request.completion for request in requests]
        self.began.set()
        assert self.go.wait(20)
        return [TokenLogprobs((-1.0,)) for _ in requests]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [1 for _ in texts]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


def asks(words: str) -> list[Request]:
    return [Request.ask(word) for word in words]


def in_thread(work: Any) -> tuple[threading.Thread, list[Any]]:
    got: list[Any] = []

    def run() -> None:
        try:
            got.append(work())
        except BaseException as error:
            got.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, got


def test_a_call_in_flight_in_another_thread_is_awaited_and_the_rest_is_sent_meanwhile(cache: CallCache) -> None:
    first, second = Held(), Held()
    second.go.set()
    thread, got = in_thread(lambda: CachedLLM(first, cache).generate(asks("ab")))
    assert first.began.wait(10)
    notes: list[str] = []

    def watch(done: int, total: int, note: str) -> None:
        notes.append(note)
        if note.startswith("waiting"):
            first.go.set()  # only now does the first answer

    llm = CachedLLM(second, cache, on_progress=watch)
    mine = llm.generate(asks("bc"))
    thread.join(10)
    assert second.asked == ["c"]
    assert [r.text for r in mine] == ["to b", "to c"]
    assert [r.cached for r in mine] == [True, False]
    assert [r.text for r in got[0]] == ["to a", "to b"]
    assert f"waiting for 1 calls in flight in process {os.getpid()}" in notes
    assert dict(llm.taken().select("reply", "cached").iter_rows()) == {"to b": True, "to c": False}


def test_two_that_want_each_others_calls_do_not_wait_for_each_other(cache: CallCache) -> None:
    first, second = Held(), Held()
    one, got_one = in_thread(lambda: CachedLLM(first, cache).generate(asks("ab")))
    assert first.began.wait(10)
    two, got_two = in_thread(lambda: CachedLLM(second, cache).generate(asks("bca")))
    assert second.began.wait(10)
    second.go.set()
    first.go.set()
    one.join(10)
    two.join(10)
    assert sorted(first.asked + second.asked) == ["a", "b", "c"]
    assert [r.text for r in got_two[0]] == ["to b", "to c", "to a"]
    assert len(got_one[0]) == 2


def test_a_call_that_failed_in_passing_elsewhere_is_asked_here(cache: CallCache) -> None:
    first, second = Held(fails=True), Held()
    second.go.set()
    thread, got = in_thread(lambda: CachedLLM(first, cache).generate(asks("a")))
    assert first.began.wait(10)
    waiting, mine = in_thread(lambda: CachedLLM(second, cache).generate(asks("a")))
    first.go.set()
    thread.join(10)
    waiting.join(10)
    assert got[0][0].failure == "timeout"
    assert mine[0][0].text == "to a"


def test_scorings_are_awaited_too(cache: CallCache) -> None:
    first, second = Held(), Held()
    thread, _ = in_thread(lambda: CachedLLM(first, cache).logprobs([ScoreRequest("x")]))
    assert first.began.wait(10)
    waiting, mine = in_thread(lambda: CachedLLM(second, cache).logprobs([ScoreRequest("x")]))
    first.go.set()
    thread.join(10)
    waiting.join(10)
    assert second.asked == []
    assert mine[0][0].logprobs == (-1.0,)


def test_an_engine_that_breaks_lets_go_of_its_claims(cache: CallCache) -> None:
    class Breaks(Held):
        def generate(self, requests: Sequence[Request]) -> list[Reply]:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        CachedLLM(Breaks(), cache).generate(asks("ab"))
    sound = Held()
    sound.go.set()
    thread, got = in_thread(lambda: CachedLLM(sound, cache).generate(asks("ab")))
    thread.join(10)
    assert [r.text for r in got[0]] == ["to a", "to b"]


def test_a_stop_ends_the_waiting(cache: CallCache) -> None:
    first = Held()
    thread, _ = in_thread(lambda: CachedLLM(first, cache).generate(asks("a")))
    assert first.began.wait(10)
    (cache.path.parent / "STOP").touch()
    with pytest.raises(Stopped, match="another run has in flight"):
        CachedLLM(Held(), cache).generate(asks("a"))
    first.go.set()
    thread.join(10)


def test_what_a_dead_process_had_in_flight_is_taken_over(cache: CallCache, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from storage.calls.cached_llm import CallCache;"
        "cache = CallCache(Path(sys.argv[1])); print(sorted(cache.claims.take('x', [b'k' * 16, b'l' * 16])) != []);"
        "sys.stdout.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cache.path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True"
    with cache.claims.flight() as flight:
        assert cache.claims.held([b"k" * 16]) == {}
        assert flight.take([b"k" * 16]) == [b"k" * 16]


def test_a_file_of_an_earlier_release_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    CallCache(path).close()
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE claims")
    connection.commit()
    connection.close()
    cache = CallCache(path)
    engine = Held()
    engine.go.set()
    assert CachedLLM(engine, cache).generate(asks("a"))[0].ok
    cache.close()
