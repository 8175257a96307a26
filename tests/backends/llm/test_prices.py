"""What tokens cost: by recipe, by file, by server; unknown stays unknown."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from backends.llm._prices import ModelPrice, price_of_model
from backends.llm.openai import OpenAI
from backends.protocols import Request
from schemas.errors import UsageError
from tests.fakes.openai_server import FakeServer, Faults

URL = "https://api.example.org/v1"


def test_a_call_costs_its_prompt_its_cached_prompt_and_its_reply() -> None:
    """1,000 prompt tokens of which 600 cached, 500 reply tokens: 400 x 2 + 600 x 0.5 + 500 x 10 = 6,100 per million."""
    price = ModelPrice(input=2.0, output=10.0, cached_input=0.5)
    assert price.usd(1000, 500, 600) == pytest.approx(0.0061)
    assert price.usd(1000, 500) == pytest.approx(0.007)
    assert price.usd(10, 0, 10_000) == pytest.approx(0.000005), "a server cannot cache more than the prompt"


def test_without_a_cached_price_cached_tokens_cost_the_same() -> None:
    assert ModelPrice(input=2.0, output=10.0).usd(1000, 0, 600) == pytest.approx(0.002)


def test_a_batch_costs_its_factor() -> None:
    price = ModelPrice(input=2.0, output=10.0, cached_input=1.0, batch=0.5)
    assert price.batched() == ModelPrice(input=1.0, output=5.0, cached_input=0.5)


def test_the_recipe_goes_before_the_file_and_a_server_before_any_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {
        "a": {"input": 1, "output": 2},
        "a@api.example.org": {"input": 3, "output": 4},
        "b": {"input": 5, "output": 6},
    }
    (tmp_path / "prices.json").write_text(json.dumps(table))
    assert price_of_model("a", URL, {}) is None
    monkeypatch.setenv("PROVENDER_PRICES", str(tmp_path / "prices.json"))
    assert price_of_model("a", URL, {}) == ModelPrice(input=3, output=4)
    assert price_of_model("a", "http://127.0.0.1:1/v1", {}) == ModelPrice(input=1, output=2)
    assert price_of_model("a", URL, {"a": ModelPrice(input=9, output=9)}) == ModelPrice(input=9, output=9)
    assert price_of_model("unknown", URL, {}) is None
    assert OpenAI(model="b", base_url=URL).price == (5.0, 6.0)
    assert OpenAI(model="b", base_url=URL, input_usd_per_million=0, output_usd_per_million=0).price == (0.0, 0.0)
    (tmp_path / "prices.json").write_text(json.dumps({"b": {"input": 7, "output": 8, "batch": 0.5}}))
    assert OpenAI(model="b", base_url=URL).price == (7.0, 8.0)
    assert OpenAI(model="b", base_url=URL, batch=True).price == (3.5, 4.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ('{"a": {"input": 1}}', "a.output"),
        ('{"a": {"input": -1, "output": 1}}', "a.input"),
        ('{"a": {"input": 1, "output": 1, "batch": 0}}', "a.batch"),
        ('{"a": {"input": 1, "output": 1, "outputs": 2}}', "a.outputs"),
    ],
)
def test_a_bad_table_is_named_with_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    (tmp_path / "prices.json").write_text(text)
    monkeypatch.setenv("PROVENDER_PRICES", str(tmp_path / "prices.json"))
    with pytest.raises(UsageError, match=told):
        price_of_model("a", URL, {})


def test_a_table_that_is_not_there_is_no_price_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVENDER_PRICES", "/nowhere/prices.json")
    with pytest.raises(UsageError, match="cannot be read"):
        OpenAI(model="a").price  # noqa: B018


def test_a_recipe_with_a_price_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValidationError, match="prices"):
        OpenAI(model="a", prices={"a": {"input": 1}})


def test_tokens_that_the_server_found_in_its_cache_are_cheaper() -> None:
    with FakeServer(Faults(latency=(0.0, 0.001), cached_tokens=4)) as server:
        engine = OpenAI(
            model="fake", base_url=server.url, prices={"fake": {"input": 2.0, "output": 10.0, "cached_input": 1.0}}
        ).open()
        reply = engine.generate([Request.ask("hello, server")])[0]
        engine.close()
    assert reply.cost_usd == pytest.approx(((reply.prompt_tokens - 4) * 2.0 + 4 * 1.0 + 8 * 10.0) / 1e6)


def test_a_price_changes_no_identity() -> None:
    assert (
        OpenAI(model="a", prices={"a": {"input": 1, "output": 1}}, batch=True).identity()
        == OpenAI(model="a").identity()
    )
