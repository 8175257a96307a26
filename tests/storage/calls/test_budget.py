"""Budgets bind: worst case reserved before, settled after, cumulative over resumes and processes, clean stop."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from backends.llm.scripted import Scripted
from backends.protocols import Meter, Reply, Request, Sampling
from schemas.errors import BudgetExceeded, Stopped, UsageError
from storage.calls.budget import Ceilings, Refusal, union_seconds
from storage.calls.cached_llm import CachedLLM, CallCache
from storage.calls.stopping import stop_on_signals


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


def asks(n: int, max_tokens: int = 10) -> list[Request]:
    return [Request.ask(f"q{i}", Sampling(max_tokens=max_tokens)) for i in range(n)]


#: A request of `asks` is 2 or 3 bytes and one turn: 1 + 8 + 8 prompt tokens at worst, and 10 of the reply.
WORST = 27


class Costly:
    """Ten prompt and ten reply tokens a call, at 1 USD per thousand tokens; takes a meter."""

    price: tuple[float, float] | None = (1000.0, 1000.0)

    def __init__(self) -> None:
        self.sent = 0

    def identity(self) -> dict[str, Any]:
        return {"model": "costly"}

    def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
        replies = []
        for i in range(len(requests)):
            if meter is not None and not meter.admit(i):
                replies.append(Reply(failure="over-budget", finish_reason="error"))
            else:
                self.sent += 1
                cost = None if self.price is None else 0.02
                replies.append(Reply(text=f"r{i}", prompt_tokens=10, completion_tokens=10, cost_usd=cost))
            if meter is not None:
                meter.deliver(i, replies[-1])
        return replies

    def logprobs(self, requests: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [1 for _ in texts]


def test_the_run_stops_where_the_next_call_might_not_fit_and_resumes(cache: CallCache) -> None:
    """Each call costs 20 and reserves 27: with a ceiling of 100 the fourth call (60 spent + 27) still fits, the fifth not."""
    engine = Costly()
    llm = CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=100))
    with pytest.raises(BudgetExceeded) as caught:
        llm.generate(asks(8))
    assert engine.sent == 4
    said = str(caught.value)
    assert "ceiling of 100 tokens" in said
    assert "80 tokens went into 4 calls and 4 calls are left" in said
    assert "a ceiling of about 160 tokens" in said  # 80 + 4 calls of 20
    assert "budget.max_tokens" in said
    richer = CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=170))
    assert [r.cached for r in richer.generate(asks(8))] == [True] * 4 + [False] * 4
    assert engine.sent == 8


def test_the_ceiling_that_a_stop_asks_for_is_enough_when_calls_go_on_as_before(cache: CallCache) -> None:
    """The promise of the message: the advised ceiling plus one worst case always completes the run."""
    engine = Costly()
    with pytest.raises(BudgetExceeded) as caught:
        CachedLLM(engine, cache, cache.budget("run", "s", max_tokens=200)).generate(asks(30))
    advised = int(str(caught.value).split("a ceiling of about ")[1].split(" ")[0].replace(",", ""))
    CachedLLM(engine, cache, cache.budget("run", "s", max_tokens=advised + WORST)).generate(asks(30))
    assert engine.sent == 30


def test_spending_is_cumulative_over_resumes_and_separate_between_runs(cache: CallCache) -> None:
    engine = Costly()
    CachedLLM(engine, cache, cache.budget("run", "a")).generate(asks(3))
    with pytest.raises(BudgetExceeded):
        CachedLLM(engine, cache, cache.budget("run", "b", max_tokens=80)).generate(asks(1, max_tokens=11))
    CachedLLM(engine, cache, cache.budget("other run", "b", max_tokens=80)).generate(asks(1, max_tokens=12))
    budget = cache.budget("run", "a")
    assert budget.spent().tokens == 60
    assert budget.spent(whole=True).tokens == 60
    assert budget.spent().usd == pytest.approx(0.06)


def test_a_stage_has_a_ceiling_of_its_own(cache: CallCache) -> None:
    engine = Costly()
    budget = cache.budget("run", "a", of_stage=Ceilings(tokens=30))
    with pytest.raises(BudgetExceeded, match="stage a of run run stopped at its ceiling of 30 tokens"):
        CachedLLM(engine, cache, budget).generate(asks(3))
    assert engine.sent == 1
    CachedLLM(engine, cache, cache.budget("run", "b", of_stage=Ceilings(tokens=30))).generate(asks(1, max_tokens=11))


def test_money_binds_and_a_model_without_a_price_is_refused_under_a_ceiling_in_money(cache: CallCache) -> None:
    engine = Costly()
    with pytest.raises(BudgetExceeded, match=r"ceiling of 0\.0500 USD: 0\.0400 USD went into 2 calls"):
        CachedLLM(engine, cache, cache.budget("run", "a", max_usd=0.05)).generate(asks(5))
    free = Costly()
    free.price = None
    with pytest.raises(UsageError, match="the model has no price"):
        CachedLLM(free, cache, cache.budget("other", "a", max_usd=1.0)).generate(asks(1, max_tokens=11))
    assert free.sent == 0


def test_a_ceiling_in_money_does_not_stand_in_the_way_of_a_model_of_ones_own(cache: CallCache) -> None:
    class Local(Costly):
        price = None
        billed = False

    budget = cache.budget("run", "a", max_usd=0.01)
    llm = CachedLLM(Local(), cache, budget)
    assert all(reply.ok for reply in llm.generate(asks(3)))
    assert llm.taken()["cost_usd"].to_list() == [None] * 3  # what it costs is not known, and is not called nothing


def test_an_unknown_price_is_null_never_zero(cache: CallCache) -> None:
    engine = Costly()
    engine.price = None
    budget = cache.budget("run", "a")
    llm = CachedLLM(engine, cache, budget)
    llm.generate(asks(2))
    cache.flush()
    assert budget.spent().usd is None
    assert llm.taken()["cost_usd"].to_list() == [None, None]


def test_wall_time_binds(cache: CallCache) -> None:
    class Slow(Costly):
        def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
            time.sleep(0.05)
            return super().generate(requests, meter)

    engine = Slow()
    budget = cache.budget("run", "a", max_seconds=0.12)
    llm = CachedLLM(engine, cache, budget)

    def go_on() -> None:
        for i in range(20):
            llm.generate(asks(1, max_tokens=10 + i))

    with pytest.raises(BudgetExceeded, match="1 seconds"):
        go_on()
    assert 2 <= engine.sent <= 4


def test_time_of_stages_that_run_at_once_counts_once() -> None:
    assert union_seconds([(0.0, 2.0), (1.0, 3.0), (10.0, 11.0)]) == 4.0


def test_two_processes_cannot_both_take_the_last_of_a_budget(cache: CallCache) -> None:
    """Check-then-spend would let both through: the reservation of the first is what the second meets."""
    one = cache.budget("run", "a", max_tokens=100)
    two = cache.budget("run", "a", max_tokens=100)
    assert isinstance(one.reserve(60, None), int)
    refused = two.reserve(60, None)
    assert isinstance(refused, Refusal)
    assert isinstance(two.reserve(40, None), int)


def test_what_a_killed_process_had_in_flight_counts_as_lost_at_its_worst_case(cache: CallCache) -> None:
    code = (
        "import sys, os; from storage.calls.cached_llm import CallCache; "
        "c = CallCache(sys.argv[1]); b = c.budget('run', 'a', max_tokens=1000); b.reserve(300, None); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(cache.path)], check=False)
    connection = sqlite3.connect(cache.path)
    assert connection.execute("SELECT tokens FROM reservations").fetchall() == [(300,)]
    budget = cache.budget("run", "a", max_tokens=1000)
    assert connection.execute("SELECT count(*) FROM reservations").fetchone() == (0,)
    connection.close()
    assert budget.spent().lost_tokens == 300
    assert isinstance(budget.reserve(701, None), Refusal)
    assert isinstance(budget.reserve(700, None), int)


def test_reservations_are_settled_so_small_replies_leave_room(cache: CallCache) -> None:
    """Worst cases sum to 20 * 1017 tokens, real ones to 20 * 3: a ceiling of 2,000 must let all of them through."""
    budget = cache.budget("run", "a", max_tokens=2000)
    replies = CachedLLM(Scripted(default="two words").open(), cache, budget).generate(asks(20, max_tokens=1000))
    assert all(reply.ok for reply in replies)
    assert budget.spent().tokens == 20 * 3


def test_a_stop_file_ends_the_run_cleanly(cache: CallCache) -> None:
    engine = Costly()
    (cache.path.parent / "STOP").touch()
    with pytest.raises(Stopped, match=r"stopped by the file .*STOP.* with 3 of 3 calls left"):
        CachedLLM(engine, cache).generate(asks(3))
    assert engine.sent == 0
    (cache.path.parent / "STOP").unlink()
    CachedLLM(engine, cache).generate(asks(3))


def test_sigterm_drains_and_says_so(cache: CallCache) -> None:
    class Terminated(Costly):
        def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
            assert meter is not None
            assert meter.admit(0)
            os.kill(os.getpid(), signal.SIGTERM)
            meter.deliver(0, Reply(text="paid", completion_tokens=1))
            assert meter.draining()
            assert not meter.admit(1)
            meter.deliver(1, Reply(failure="over-budget"))
            return []

    engine = Terminated()
    with stop_on_signals(), pytest.raises(Stopped, match="stopped by SIGTERM with 1 of 2 calls left"):
        CachedLLM(engine, cache).generate(asks(2))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    after = Costly()
    assert [r.cached for r in CachedLLM(after, cache).generate(asks(2))] == [True, False]


def test_a_second_interrupt_is_not_waited_for() -> None:
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
