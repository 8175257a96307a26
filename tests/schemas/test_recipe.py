"""Recipes: every mistake at once, with its path; overrides; names that could do harm."""

from pathlib import Path

import pytest

from schemas.errors import BadName, RecipeError
from schemas.lineage import checked_name
from schemas.recipe import load_recipe

ROOT = Path(__file__).resolve().parent.parent.parent
#: Not recipes: what pretrained the embedded model, and a search (tests/tasks/test_search_configuration.py).
OTHERS = {"sprout.yaml", "self_guide_search.yaml"}
RECIPES = sorted(p for p in (ROOT / "recipes").glob("*.yaml") if p.name not in OTHERS)

GOOD = """
name: demo
sources:
  rows: data.jsonl
dedup: {method: exact}
rank: {method: uniform}
select: {method: top, keep_examples: 5}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert load_recipe(path).name


def test_all_mistakes_are_reported_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = """
name: demo
sources: {rows: data.jsonl}
filter:
  - {method: heuristics, no_such_field: 3}
  - {method: cleer}
select: {method: top, keep_examples: 0}
decontaminate: {benchmarks: [gsm8k], by: {method: ngram-coverage, any_n: 4}}
"""
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, text))
    told = "\n".join(caught.value.mistakes)
    assert "any_n (4) drops on one n-gram" in told
    assert "at least 1 item" not in told, "a list is not called too short of items that are wrong themselves"
    assert "filter.0.heuristics.no_such_field" in told
    assert "line 5" in told
    assert "'cleer' found using 'method' does not match any of the expected tags" in told
    assert "'clear'" in told, "the choices are listed"
    assert "keep_examples: Input should be greater than 0" in told


def test_a_list_that_is_really_too_short_is_named(tmp_path: Path) -> None:
    text = "name: demo\nsources: {rows: data.jsonl}\ndecontaminate: {benchmarks: [gsm8k], by: []}\n"
    with pytest.raises(RecipeError, match=r"decontaminate\.by: .* at least 1 item"):
        load_recipe(written(tmp_path, text))


def test_cross_references_are_checked_together(tmp_path: Path) -> None:
    text = """
name: Demo
sources: {rows: data.jsonl}
generate: {seeds: nowhere, by: {method: self-instruct, examples: 5}}
select: {method: top, keep_examples: 5}
evaluate: {target: rows}
"""
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, text))
    told = "\n".join(caught.value.mistakes)
    for part in (
        "name 'Demo' is refused",
        "generate.0.seeds: no source 'nowhere'; sources: rows",
        "select: there is no ranking to cut",
        "evaluate.target: source 'rows' has role 'pool'; it must be 'target'",
        "generate.0.by: self-instruct needs a backend; add `backends: {llm: …}`",
    ):
        assert part in told


def test_an_override_is_validated_like_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert load_recipe(path, ["select.keep_examples=7"]).select.keep_examples == 7  # type: ignore[union-attr]
    assert load_recipe(path, ["rng_seed=9"]).rng_seed == 9
    with pytest.raises(RecipeError, match="keep_examples"):
        load_recipe(path, ["select.keep_examples=-1"])
    with pytest.raises(RecipeError, match="an override looks like"):
        load_recipe(path, ["select"])


def test_relative_paths_are_the_recipes_not_the_callers(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, GOOD)).sources["rows"].path == str(tmp_path / "data.jsonl")


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "a/../b",
        "CON",
        "con",
        "a\nb",
        "a\x00",
        "a.",
        "",
        "x" * 65,
        "a/b/c/d/e",
        "dëmo",
        "dе\u0301mo",
        "a\\b",
        "%2e%2e",
        "com1.txt",
    ],
    ids=ascii,
)
def test_names_with_separators_controls_lookalikes_or_reserved_words_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        checked_name(name)


def test_names_that_any_system_can_hold_are_taken() -> None:
    for name in ("demo", "support-bot", "a.b_c-1", "team/project/set"):
        assert checked_name(name) == name
