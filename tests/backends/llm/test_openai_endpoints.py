"""More than one endpoint, limits per minute, servers without a JSON constraint: what is sent where, and when."""

import asyncio
import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from backends.llm._breaker import Breaker
from backends.llm._limits import Limits, Rate
from backends.llm._openai_wire import body_of
from backends.llm.openai import OpenAI
from backends.protocols import Request, Sampling
from schemas.errors import EngineDown
from tests.fakes.openai_server import FakeServer, Faults

QUICK = (0.001, 0.002)


def two(first: FakeServer, second: FakeServer, **settings: Any) -> OpenAI:
    there = {"model": "spare", "base_url": second.url, "after_failures": 3, **settings.pop("there", {})}
    return OpenAI(model="fake", base_url=first.url, timeout_seconds=2.0, fallback=there, **settings)


def asks(count: int) -> list[Request]:
    return [Request.ask(f"row {i}") for i in range(count)]


def test_what_the_first_endpoint_answers_stays_there() -> None:
    with FakeServer(Faults(latency=QUICK)) as first, FakeServer(Faults(latency=QUICK)) as second:
        engine = two(first, second).open()
        replies = engine.generate(asks(20))
        engine.close()
    assert {reply.model for reply in replies} == {"fake"}
    assert second.counters()["requests"] == 0


@pytest.mark.parametrize("fault", ["500", "reset", "undecodable"])
def test_when_the_first_fails_again_and_again_all_calls_go_to_the_second(fault: str) -> None:
    with FakeServer(Faults(latency=QUICK, rates={fault: 1.0})) as first, FakeServer(Faults(latency=QUICK)) as second:
        engine = two(first, second, concurrency=4).open()
        replies = engine.generate(asks(60))
        engine.close()
    assert all(reply.ok for reply in replies)
    assert {reply.model for reply in replies} == {"spare"}, "which endpoint answered stands with the reply"
    assert first.counters()["requests"] <= 12, "three failures in a row, and what was in flight then"


@pytest.mark.parametrize("settings", [{"key": "another"}, {"models": ("other",)}, {"rates": {"429-quota": 1.0}}])
def test_a_refused_key_an_unknown_model_and_an_empty_account_turn_to_the_second(settings: dict[str, Any]) -> None:
    with FakeServer(Faults(latency=QUICK, **settings)) as first, FakeServer(Faults(latency=QUICK)) as second:
        engine = two(first, second, concurrency=2).open()
        replies = engine.generate(asks(10))
        engine.close()
    assert all(reply.ok and reply.model == "spare" for reply in replies)


def test_a_server_that_is_not_there_turns_to_the_second_at_once() -> None:
    with FakeServer(Faults(latency=QUICK)) as second:
        config = OpenAI(
            model="fake", base_url="http://127.0.0.1:9/v1", fallback={"model": "fake", "base_url": second.url}
        )
        engine = config.open()
        replies = engine.generate(asks(5))
        engine.close()
    assert {reply.model for reply in replies} == {"fake@127.0.0.1"}, "the same name elsewhere is told apart"


def test_rows_that_a_server_refuses_are_not_carried_elsewhere() -> None:
    with FakeServer(Faults(latency=QUICK, poison="row 3")) as first, FakeServer(Faults(latency=QUICK)) as second:
        engine = two(first, second).open()
        replies = engine.generate(asks(5))
        engine.close()
    assert [reply.failure for reply in replies] == [None, None, None, "refused-by-server", None]
    assert second.counters()["requests"] == 0


def test_a_first_endpoint_that_recovers_gets_its_calls_back() -> None:
    faults = Faults(latency=QUICK, rates={"500": 1.0})
    with FakeServer(faults) as first, FakeServer(Faults(latency=QUICK)) as second:
        engine = two(first, second, there={"retry_seconds": 0.05}).open()
        assert {reply.model for reply in engine.generate(asks(10))} == {"spare"}
        faults.rates = {}
        time.sleep(0.1)
        engine.generate([Request.ask("a try")])
        assert {reply.model for reply in engine.generate([Request.ask(f"later {i}") for i in range(10)])} == {"fake"}
        engine.close()


def test_when_both_are_gone_the_run_ends_with_the_second_named() -> None:
    config = OpenAI(
        model="fake", base_url="http://127.0.0.1:9/v1", fallback={"model": "spare", "base_url": "http://127.0.0.1:9/v1"}
    )
    engine = config.open()
    with pytest.raises(EngineDown, match="model spare"):
        engine.generate(asks(3))
    engine.close()


def test_a_fallback_is_part_of_the_identity_and_its_address_is_not() -> None:
    def config(**there: Any) -> OpenAI:
        return OpenAI(model="m", fallback={"model": "n", "base_url": "http://a/v1", **there})

    assert config().identity() == config(base_url="http://b/v1", after_failures=99).identity()
    assert config().identity() != OpenAI(model="m").identity()
    assert config().identity() != config(model="o").identity()
    assert config().identity() != config(revision="2").identity()
    with pytest.raises(ValidationError, match="NAME of an environment variable"):
        config(api_key_env="sk-abcdefghijkl")


def test_with_two_prices_the_dearer_counts_before_and_the_right_one_after() -> None:
    prices = {"fake": {"input": 1.0, "output": 8.0}, "spare": {"input": 2.0, "output": 4.0}}
    with FakeServer(Faults(latency=QUICK, rates={"500": 1.0})) as first, FakeServer(Faults(latency=QUICK)) as second:
        config = two(first, second, prices=prices)
        assert config.price == (2.0, 8.0)
        engine = config.open()
        reply = engine.generate(asks(1))[0]
        engine.close()
        assert reply.cost_usd == pytest.approx((reply.prompt_tokens * 2.0 + 8 * 4.0) / 1e6)
        half_known = two(first, second, prices={"fake": prices["fake"]})
        assert half_known.price is None, "a price that may not hold cannot bind"
        engine = half_known.open()
        assert engine.generate(asks(1))[0].cost_usd is None
        engine.close()


def test_the_breaker_opens_rests_longer_each_time_and_closes() -> None:
    now = [0.0]
    breaker = Breaker(failures=2, rest_seconds=10.0, clock=lambda: now[0])
    breaker.failed()
    assert breaker.lets_through()
    breaker.failed()
    assert not breaker.lets_through()
    now[0] = 10.0
    assert breaker.lets_through(), "one tries"
    assert not breaker.lets_through(), "only one"
    breaker.failed()
    now[0] = 29.9
    assert not breaker.lets_through(), "now it rests for twenty seconds"
    now[0] = 30.0
    assert breaker.lets_through()
    breaker.succeeded()
    assert breaker.lets_through()
    assert not breaker.is_open


@given(st.floats(1, 6000), st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 300)), min_size=1, max_size=60))
def test_no_minute_holds_more_than_its_limit(per_minute: float, comers: list[tuple[float, float]]) -> None:
    """Whoever comes when: in any window of a minute at most the limit, and the one amount that reaches over its edge."""
    rate, now = Rate(per_minute), 0.0
    sent: list[tuple[float, float]] = []
    for pause, amount in comers:
        now += pause
        sent.append((now + rate.take(amount, now), amount))
    for begin, _ in sent:
        within = [amount for at, amount in sent if begin <= at < begin + 60.0]
        assert sum(within[:-1]) <= per_minute * (1 + 1e-6)


def test_tokens_taken_at_their_worst_are_given_back() -> None:
    now = [0.0]
    limits = Limits(None, 60.0, clock=lambda: now[0])
    assert limits.delay(30) == 0.0
    assert limits.delay(30) == pytest.approx(30.0)
    limits.settle(30, 10)
    assert limits.delay(1) == pytest.approx(40.0)


def test_requests_keep_to_the_limit_of_their_model() -> None:
    with FakeServer(Faults(latency=QUICK)) as server:
        engine = OpenAI(model="fake", base_url=server.url, requests_per_minute=1200).open()
        engine.generate(asks(12))
        engine.close()
        gaps = [b - a for a, b in itertools.pairwise(server.arrivals)]
    assert sum(gaps) >= 11 * 0.05 * 0.5, "1,200 a minute is one each 50 ms; unlimited it takes a tenth of that"


SCHEMA = '{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"]}'


@pytest.mark.parametrize("how", ["json_schema", "json_object", "prompt"])
def test_each_way_of_asking_for_json_is_checked_and_asked_again(how: str) -> None:
    faults = Faults(latency=QUICK, early=1, first_fault="wrong-schema", json_always=True)
    with FakeServer(faults) as server:
        engine = OpenAI(model="fake", base_url=server.url, structured_output=how).open()
        reply = engine.generate([Request.ask("hello", Sampling(json_schema=SCHEMA))])[0]
        engine.close()
    assert (reply.failure, reply.attempts) == (None, 2)
    first = server.requests[0]
    assert first.get("response_format", {}).get("type") == (None if how == "prompt" else how)
    assert (SCHEMA in first["messages"][-1]["content"]) == (how != "json_schema")
    assert OpenAI(model="m", structured_output=how).identity() == OpenAI(model="m").identity() or how != "json_schema"


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"], "additionalProperties": False}, False),
        ({"type": "array", "items": {"type": "object", "properties": {}}}, False),
        ({"type": "string"}, True),
    ],
)
def test_strict_is_said_only_of_schemas_that_servers_take_for_strict(schema: dict[str, Any], strict: bool) -> None:
    body = body_of(Request.ask("x", Sampling(json_schema=json.dumps(schema))), "m", neutralize=True)
    assert ("strict" in body["response_format"]["json_schema"]) == strict


def test_the_engine_works_from_many_threads_at_once() -> None:
    async def many(engine: Any) -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(engine.generate, asks(5)) for _ in range(8)))

    with FakeServer(Faults(latency=QUICK)) as server:
        engine = OpenAI(model="fake", base_url=server.url).open()
        lists = asyncio.run(many(engine))
        engine.close()
    assert all(len(replies) == 5 and all(reply.ok for reply in replies) for replies in lists)
