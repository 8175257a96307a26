"""The live line: what was spent, how fast it goes, when it is through and what it will have cost by then."""

import pytest

from backends.protocols import Reply
from storage.calls.spending import Spending, Spent, span


class World:
    """A step whose clock we turn: a call every half second, 10 tokens and a cent each."""

    def __init__(self, *, billed: bool = True, usd: float | None = 0.01) -> None:
        self.now = 100.0
        self.spending = Spending(billed, clock=lambda: self.now)
        self._usd = usd

    def calls(self, count: int) -> None:
        for _ in range(count):
            self.spending.paid(Reply(text="x", prompt_tokens=6, completion_tokens=4, cost_usd=self._usd))
            self.now += 0.5


def test_a_list_of_calls_leads_to_its_own_end() -> None:
    """20 of 100 calls: 0.20 USD and 200 tokens; 19 calls in the 10 s since the first: 1.9 a second; 80 left."""
    world = World()
    world.calls(20)
    said = world.spending.words(20, 100)
    assert said == ("spent $0.2000 of about $1.00, ETA 0:42, 1.9 calls/s, 19 tokens/s, 200 of about 1,000 tokens")


def test_calls_from_the_cache_cost_nothing_more() -> None:
    """50 of 100 were hits; 10 are paid so far, 40 to come at a cent."""
    world = World()
    world.calls(10)
    assert "of about $0.5000, " in world.spending.words(60, 100)


def test_the_method_knows_better_than_the_list_at_hand() -> None:
    """A list of 10 calls is through, but the method is at 10 of 40."""
    world = World()
    world.spending.of_step(0, 40)
    world.calls(10)
    world.spending.of_step(10, 40)
    said = world.spending.words(10, 10)
    assert "of about $0.4000, " in said
    assert said.endswith("100 of about 400 tokens")
    assert "ETA 0:15" in said, "10 took 5 seconds, 30 are left"


def test_a_second_phase_adds_to_the_first() -> None:
    world = World()
    world.spending.of_step(0, 10)
    world.calls(10)
    world.spending.of_step(10, 10)
    world.spending.of_step(0, 20)
    world.calls(5)
    world.spending.of_step(5, 20)
    assert "spent $0.1500 of about $0.3000, " in world.spending.words(5, 20), "10 before, 20 in this phase"


def test_an_unknown_price_is_unknown_and_ones_own_machine_sends_no_invoice() -> None:
    unknown, own = World(usd=None), World(usd=None, billed=False)
    unknown.calls(2)
    own.calls(2)
    assert unknown.spending.words(2, 4).startswith("spent 20 of about 40 tokens, ETA ")
    assert unknown.spending.words(2, 4).endswith(", price unknown")
    assert own.spending.words(2, 4).startswith("spent 20 of about 40 tokens, ETA ")
    assert own.spending.words(2, 2).startswith("spent 20 tokens, ")
    assert "price" not in own.spending.words(2, 4)


def test_one_call_without_a_price_makes_the_sum_unknown_and_a_call_without_tokens_does_not() -> None:
    spending = Spending(clock=lambda: 0.0)
    spending.paid(Reply(text="x", prompt_tokens=1, cost_usd=0.5))
    spending.paid(Reply(failure="rate-limited", finish_reason="error"))
    assert spending.spent == Spent(2, 1, 0.5)
    spending.paid(Reply(text="x", prompt_tokens=1))
    assert spending.spent.usd is None


def test_the_first_call_after_a_pause_does_not_promise_days() -> None:
    """40 calls, two minutes of tuning, one call: 32 calls since the tenth, which was 136 s ago."""
    world = World()
    world.calls(40)
    world.now += 120
    world.calls(1)
    said = world.spending.words(41, 1041)
    assert "0.2 calls/s" in said
    assert "ETA 1:13:07" in said, "1,000 left at 31 in 136 s; the pause alone would say 33 hours"


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    world = World()
    world.calls(20)
    world.now += 1000
    world.calls(21)
    assert "1.9 calls/s" in world.spending.words(41, 100), "20 in the 10.5 s since the first of them"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0:00"), (61, "1:01"), (3600, "1:00:00")])
def test_spans_are_short(seconds: float, said: str) -> None:
    assert span(seconds) == said
