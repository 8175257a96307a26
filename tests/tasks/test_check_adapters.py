"""`check` names the package that an adapter over 4 bits needs, before anything runs."""

import sys
from pathlib import Path

import pytest

from schemas.errors import RecipeError
from schemas.recipe import Recipe
from tasks.check import looks


def recipe(folder: Path, adapter: str) -> Recipe:
    (folder / "rows.jsonl").write_text('{"instruction": "Name a color.", "output": "Red."}\n')
    training = {"backend": "trl", "model": "sprout", "adapter": adapter}
    return Recipe.model_validate(
        {
            "name": "four",
            "sources": {"rows": {"path": str(folder / "rows.jsonl"), "license": "MIT"}},
            "finetune": {"by": training, "override_gate": "a test"},
        }
    )


@pytest.mark.parametrize("adapter", ["qlora", "loftq"])
def test_an_adapter_over_4_bits_needs_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(RecipeError, match=r"finetune.by: adapter '(qlora|loftq)' .* pip install 'provender\[qlora\]'"):
        looks(recipe(tmp_path, adapter), "recipe.yaml")
    assert "finetune.by: trl" in looks(recipe(tmp_path, "lora"), "recipe.yaml")
