"""Scorings in the call cache: kept bit by bit, as soon as they are known, and in the lineage beside the calls."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.protocols import ScoreRequest, TokenLogprobs, Turn
from schemas.errors import BackendError
from storage.calls.cached_llm import CachedLLM, CallCache, Stored
from storage.calls.keys import pack, scores_of
from tests.storage.calls.counting import Counting, asks


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


def test_log_probabilities_are_cached_bit_by_bit(cache: CallCache) -> None:
    engine = Counting()
    requests = [ScoreRequest("x", (Turn("user", "q"),)), ScoreRequest("long"), ScoreRequest("x", (Turn("user", "q"),))]
    first = CachedLLM(engine, cache).logprobs(requests)
    again = CachedLLM(engine, cache).logprobs(requests)
    assert len(engine.scored) == 2
    assert first == again
    assert again[0].logprobs == (-0.1, -1.0 / 3, -2.5)
    assert [r.truncated for r in again] == [False, True, False]


def test_a_scoring_is_kept_under_the_name_that_the_models_replies_carry(cache: CallCache) -> None:
    class OfAFolder(Counting):
        name = "sprout"  # its identity says "counting"

    llm = CachedLLM(OfAFolder(), cache)
    llm.logprobs([ScoreRequest("x")])
    assert llm.taken()["model"].to_list() == ["sprout"]


def test_a_scoring_is_kept_and_shown_as_soon_as_the_engine_knows_it(cache: CallCache) -> None:
    class Dies(Counting):
        def logprobs(self, requests: Sequence[ScoreRequest], deliver: Any = None) -> list[TokenLogprobs]:
            for i in (2, 0):  # an engine takes them in the order that suits it
                deliver(i, TokenLogprobs((-1.0 - i,), prompt_tokens=9))
            raise BackendError("the machine went away")

    told: list[tuple[int, int, str]] = []
    llm = CachedLLM(Dies(), cache, on_progress=lambda *line: told.append(line))
    with pytest.raises(BackendError, match="went away"):
        llm.logprobs([ScoreRequest(text) for text in "abc"])
    engine = Counting()
    found = CachedLLM(engine, cache).logprobs([ScoreRequest(text) for text in "abc"])
    assert [request.completion for request in engine.scored] == ["b"], "the two that were known are not asked again"
    assert [one.sum_logprob for one in found] == [-1.0, pytest.approx(-0.1 - 1 / 3 - 2.5), -3.0]
    assert told[0][:2] == (1, 3)
    assert told[0][2].startswith("spent 10 "), "what was read counts as spent: nine tokens and one scored"


def test_scorings_are_in_the_lineage_beside_the_calls_without_texts(cache: CallCache) -> None:
    """Three tokens scored after a prompt of two: five were read and paid for, none written."""
    CachedLLM(Counting(), cache).logprobs([ScoreRequest("old")])
    engine = Counting()
    engine.price = (2.0, 8.0)
    llm = CachedLLM(engine, cache)
    llm.generate(asks("a"))
    asked = [
        ScoreRequest("x", (Turn("user", "two words"),)),
        ScoreRequest("old"),
        ScoreRequest("x", (Turn("user", "two words"),)),
    ]
    keys = [one.call for one in llm.logprobs(asked)]
    told = llm.taken()
    assert told["key"].to_list()[1:] == [keys[0], keys[1]], "each once, in order of first use"
    scored = told.filter(pl.col("kind") == "score").drop("key", "model")
    assert scored.to_dicts() == [
        {
            "kind": "score", "request": None, "reply": None, "finish_reason": None, "prompt_tokens": 5,
            "completion_tokens": 0, "cost_usd": pytest.approx(5 * 2.0 / 1e6), "attempts": 1, "cached": False,
            "failure": None,
        },
        {
            "kind": "score", "request": None, "reply": None, "finish_reason": None, "prompt_tokens": 3,
            "completion_tokens": 0, "cost_usd": None, "attempts": 1, "cached": True, "failure": None,
        },
    ]  # fmt: skip
    assert llm.taken().height == 0


def test_a_scoring_that_failed_in_passing_is_in_the_lineage_and_not_in_the_cache(cache: CallCache) -> None:
    engine = Counting()
    engine.scores_fail = "timeout"
    llm = CachedLLM(engine, cache)
    key = llm.logprobs([ScoreRequest("x")])[0].call
    assert llm.taken().select("key", "kind", "failure").rows() == [(key, "score", "timeout")]
    assert cache.lookup([key]) == {}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5), st.booleans())
def test_packed_log_probabilities_come_back_unchanged(values: list[float], truncated: bool) -> None:
    result = TokenLogprobs(tuple(values), truncated=truncated)
    assert scores_of(Stored(b"", "score", "m", None, payload=pack(result))) == result


def test_float32_scores_take_four_bytes_each() -> None:
    assert len(pack(TokenLogprobs((-0.5, -1.25)))) == 9
    assert len(pack(TokenLogprobs((-0.1,)))) == 9  # 0.1 needs all eight
