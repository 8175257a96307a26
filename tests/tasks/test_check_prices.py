"""A ceiling in USD before a model without a price is a mistake that `check` names before anything is spent."""

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import RecipeError, UsageError
from storage.calls.cached_llm import CallCache
from tasks.check import looks
from tests.tasks.fakes_recipe import recipe


def priced(folder: Path, **llm: Any) -> Any:
    backends = {"llm": {"backend": "openai", "model": "m", **llm}, "embed": {"backend": "hashing"}}
    return recipe(folder, budget={"max_usd": 5}, backends=backends)


def test_check_names_a_model_without_a_price(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"budget\.max_usd: backends\.llm has no known price"):
        looks(priced(tmp_path), "recipe")


def test_a_price_in_the_recipe_is_enough(tmp_path: Path) -> None:
    looks(priced(tmp_path, prices={"m": {"input": 1, "output": 2}}), "recipe")


def test_a_price_in_the_environment_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.json").write_text('{"m": {"input": 1, "output": 2}}')
    monkeypatch.setenv("PROVENDER_PRICES", str(tmp_path / "prices.json"))
    looks(priced(tmp_path), "recipe")


def test_ones_own_machine_needs_no_price(tmp_path: Path) -> None:
    backends = {"llm": {"backend": "transformers", "model": "sprout"}, "embed": {"backend": "hashing"}}
    looks(recipe(tmp_path, budget={"max_usd": 5}, backends=backends), "recipe")


def test_a_run_refuses_it_too(tmp_path: Path) -> None:
    cache = CallCache(tmp_path / "calls.sqlite")
    with pytest.raises(UsageError, match="PROVENDER_PRICES"):
        cache.budget("run", "generate", max_usd=1.0).reserve(10, None)
    cache.close()
