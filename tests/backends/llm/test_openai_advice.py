"""A server set up wrongly is told apart from rows that fail: its own words, and the line to change."""

from pathlib import Path
from typing import Any

import pytest

from backends.llm.openai import OpenAI
from backends.protocols import Reply, Request, Sampling, ScoreRequest
from schemas.errors import CannotScore, EngineDown
from storage.calls.cached_llm import CachedLLM, CallCache
from tests.fakes.openai_server import FakeServer, Faults

QUICK = (0.001, 0.002)


def asks(count: int, word: str = "row") -> list[Request]:
    return [Request.ask(f"{word} {i}") for i in range(count)]


def ask(server: FakeServer, requests: list[Request], **settings: Any) -> list[Reply]:
    engine = OpenAI(**{"model": "fake", "base_url": server.url, "concurrency": 4, **settings}).open()
    try:
        return engine.generate(requests)
    finally:
        engine.close()


def test_an_unknown_model_is_answered_with_those_that_there_are() -> None:
    told = r"404: model_not_found: no such model\); it has small, large: correct"
    with FakeServer(Faults(latency=QUICK, models=("small", "large"))) as server, pytest.raises(EngineDown, match=told):
        ask(server, asks(3), model="wrong")


def test_a_refused_key_names_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "x")
    with FakeServer(Faults(latency=QUICK, key="right")) as server:
        with pytest.raises(EngineDown, match="name the environment variable that holds its key in `api_key_env`"):
            ask(server, asks(1))
        with pytest.raises(EngineDown, match="check the key in the environment variable SOME_KEY"):
            ask(server, asks(1), api_key_env="SOME_KEY")


def test_a_web_site_is_no_model_server_and_said_to_be_one_after_a_few_tries() -> None:
    with FakeServer(Faults(latency=QUICK, rates={"html": 1.0})) as server:
        with pytest.raises(EngineDown, match=r"is no model server: an HTML page .*; check `base_url`, which ends with"):
            ask(server, asks(1))
        assert server.counters()["requests"] == 4


def test_a_web_page_amid_answers_is_one_bad_reply() -> None:
    with FakeServer(Faults(latency=QUICK, rates={"html": 0.3})) as server:
        replies = ask(server, asks(40), concurrency=1)
        assert server.counters()["injected"]["html"] >= 5
    assert all(reply.ok for reply in replies)


def test_a_server_that_refuses_everything_ends_the_run_early_and_no_refusal_is_kept(tmp_path: Path) -> None:
    """Twenty refusals, and what was in flight by then; the next run, with the server mended, asks all of them again."""
    faults = Faults(latency=QUICK, poison="row")
    cache = CallCache(tmp_path / "calls.sqlite")
    with FakeServer(faults) as server:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=4).open()
        llm = CachedLLM(engine, cache)
        with pytest.raises(EngineDown, match=r"first 20 requests for a chat \(400: .*context length.*shorter draws"):
            llm.generate(asks(200))
        assert server.counters()["requests"] <= 20 + 4
        assert cache.stats()["calls"] == 0
        faults.poison = None
        assert all(reply.ok for reply in llm.generate(asks(200)))
        engine.close()
    cache.close()


def test_refusals_before_the_first_answer_are_kept_once_there_is_one(tmp_path: Path) -> None:
    cache = CallCache(tmp_path / "calls.sqlite")
    with FakeServer(Faults(latency=QUICK, poison="bad")) as server:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=1).open()
        replies = CachedLLM(engine, cache).generate([*asks(15, "bad"), *asks(30), *asks(30, "also bad")])
        engine.close()
    assert [reply.failure for reply in replies] == ["refused-by-server"] * 15 + [None] * 30 + ["refused-by-server"] * 30
    assert cache.stats()["failures"] == {"refused-by-server": 45}
    cache.close()


def test_the_lists_of_an_engine_count_together_and_a_short_one_fails_row_by_row(tmp_path: Path) -> None:
    """Rounds of seven: two are delivered as failures that are not kept, the third ends the run."""
    cache = CallCache(tmp_path / "calls.sqlite")
    with FakeServer(Faults(latency=QUICK, poison="bad")) as server:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=1).open()
        llm = CachedLLM(engine, cache)
        for start in (0, 7):
            replies = llm.generate([Request.ask(f"bad {i}") for i in range(start, start + 7)])
            assert {reply.failure for reply in replies} == {"refused-by-server"}
        assert llm.taken()["failure"].to_list() == ["refused-by-server"] * 14, "the lineage has them"
        with pytest.raises(EngineDown, match="first 20 requests"):
            llm.generate([Request.ask(f"bad {i}") for i in range(14, 21)])
        engine.close()
    assert cache.stats()["calls"] == 0
    cache.close()


def test_refusals_in_doubt_do_not_hold_the_budget_back(tmp_path: Path) -> None:
    """There is room for about three worst cases at a time; the refused ones give theirs back, so all ten are asked."""
    cache = CallCache(tmp_path / "calls.sqlite")
    with FakeServer(Faults(latency=QUICK, poison="bad")) as server:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=4).open()
        budget = cache.budget("run", "generate", max_tokens=900)
        replies = CachedLLM(engine, cache, budget).generate(asks(10, "bad"))
        engine.close()
    assert [reply.failure for reply in replies] == ["refused-by-server"] * 10
    assert server.counters()["requests"] == 10
    assert budget.spent().calls == 10
    cache.close()


def test_a_server_that_takes_chats_but_no_schema_is_told_apart_from_bad_rows(tmp_path: Path) -> None:
    """Chats were answered; every request in JSON is refused: that is the server's setting, not twenty-five rows' fault."""
    schema = '{"type": "object"}'
    with FakeServer(Faults(latency=QUICK, poison="judge")) as server:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=2).open()
        assert all(reply.ok for reply in engine.generate(asks(5)))
        judged = [Request.ask(f"judge {i}", Sampling(json_schema=schema)) for i in range(60)]
        with pytest.raises(EngineDown, match="first 20 requests for a chat in JSON"):
            engine.generate(judged)
        assert [r.failure for r in engine.generate(asks(30, "judge"))] == ["refused-by-server"] * 30
        engine.close()


def test_a_server_for_chats_only_is_answered_with_the_line_that_makes_it_work() -> None:
    with FakeServer(Faults(latency=QUICK, chats_only=True)) as server:
        assert ask(server, asks(1))[0].ok
        with pytest.raises(EngineDown, match=r"404: .*it lists this model: set `continue_as: chat` in the backend"):
            ask(server, [Request(prompt="Once upon a time")])
        told = ask(server, [Request(prompt="Once upon a time", sampling=Sampling(max_tokens=9))], continue_as="chat")
        assert told[0].ok
        assert server.requests[-1]["messages"] == [{"role": "user", "content": "Once upon a time"}]
        assert server.requests[-1]["max_tokens"] == 9


def test_how_a_text_is_sent_is_part_of_the_identity_only_where_it_is_not_the_usual_way() -> None:
    usual, chat = OpenAI(model="m"), OpenAI(model="m", continue_as="chat")
    assert "continue_as" not in usual.identity()
    assert chat.identity() == {**usual.identity(), "continue_as": "chat"}


def scorings(server: FakeServer, texts: list[str], how: str) -> list[str | None]:
    engine = OpenAI(model="fake", base_url=server.url, scoring=how).open()
    try:
        return [one.failure for one in engine.logprobs([ScoreRequest(text) for text in texts])]
    finally:
        engine.close()


def test_a_server_that_does_not_heed_echo_cannot_score() -> None:
    with (
        FakeServer(Faults(latency=QUICK, scores=False)) as server,
        pytest.raises(CannotScore, match=r"`scoring: echo` expects \(its answer holds no log-probabilities"),
    ):
        scorings(server, ["one text"], "echo")


def test_a_server_without_tokenize_cannot_score_as_vllm_does() -> None:
    with (
        FakeServer(Faults(latency=QUICK, scores=False)) as server,
        pytest.raises(CannotScore, match=r"has no /tokenize as vLLM has it.*set `scoring: echo`"),
    ):
        scorings(server, ["one text"], "vllm")


def test_a_server_that_refuses_every_scoring_cannot_score_and_one_refused_text_is_a_row() -> None:
    with FakeServer(Faults(latency=QUICK, poison="bad")) as server:
        with pytest.raises(CannotScore, match=r"400: this model's maximum context length is exceeded"):
            scorings(server, ["bad 1", "bad 2", "bad 3"], "echo")
        assert scorings(server, ["bad 1"], "echo") == ["refused-by-server"]
        assert scorings(server, ["bad 1", "bad 2", "bad 3", "good one"], "echo") == ["refused-by-server"] * 3 + [None]
