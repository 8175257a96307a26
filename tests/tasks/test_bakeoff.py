"""A bake-off through the real store with a simulated tuner: equal budgets, chance among them, a result that is reused."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from cli.baking import bakeoff_text
from cli.mixing import measured_text
from flows.bakeoff import bakeoff
from flows.curate import curate
from methods.rank.length import Length
from methods.select._budget import tokens_of
from methods.select.k_center import KCenter
from methods.select.quota import Quota
from methods.select.top import Top
from schemas.errors import RecipeError, Stopped
from schemas.lineage import DatasetRef
from schemas.recipe import Bakeoff, Contender, Recipe, load_recipe
from storage.calls.stopping import STOP_FILE
from storage.store import Store
from tasks.bakeoff import budgeted
from tasks.events import Event, listening

RECIPE = """
name: try
sources:
  rows: {path: rows.jsonl}
  aim: {path: aim.jsonl, role: target}
target: aim
decontaminate: {benchmarks: [humaneval], by: {method: ngram-coverage}}
bakeoff:
  keep_examples: 12
  seeds: 3
  use_best: true
  contenders:
    - {name: near, rank: {method: rds-plus}}
    - {rank: {method: length}}
    - select: {method: k-center, keep_examples: 40}
backends:
  embed: {backend: hashing}
  tune: {backend: simulated, skills: [river, sums], rate: 0.3, batch_size: 4, noise: 0.01}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [{"instruction": f"Name river number {i}", "output": f"The river {i} flows."} for i in range(12)]
    rows += [{"instruction": f"Do sums number {i}", "output": f"The sums are {i}. " * (1 + i % 9)} for i in range(48)]
    aims = [{"instruction": f"Name a river of land {i}", "output": f"A river of land {i}."} for i in range(10)]
    for name, lines in (("rows", rows), ("aim", aims)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE, "utf-8")
    return tmp_path / "recipe.yaml"


def test_the_way_that_finds_the_targets_skill_beats_chance_and_is_what_curate_goes_on_with(recipe: Path) -> None:
    store = recipe.parent / "store"
    loaded = load_recipe(recipe)
    ref = bakeoff.fn(loaded, store)
    opened = Store.open(store)
    manifest = opened.describe(opened.resolve(ref))
    assert manifest.summary["winner"] == "near"
    assert manifest.summary["says"].startswith("near beats random selection by ")
    assert {line["contender"] for line in manifest.summary["table"]} == {"uniform", "near", "length", "k-center"}
    assert {line["examples"] for line in manifest.summary["table"]} == {12}, "equal budgets"
    assert opened.part(manifest.ref, "sidecar/runs").height == 4 * 3
    assert bakeoff.fn(loaded, store) == ref, "a rerun measures nothing anew"
    dataset = opened.resolve(curate.fn(loaded, store))
    asked = [messages[0]["content"] for messages in opened.pool(dataset)["messages"].to_list()]
    assert len(asked) == 12
    assert sum("river" in text for text in asked) == 12
    assert manifest.summary["says"] in measured_text(opened, dataset), "the dataset says why these were chosen"
    assert measured_text(opened, DatasetRef.parse(manifest.summary["choices"]["length/0"])) == ""


def test_every_contender_is_held_to_the_budget() -> None:
    how = Bakeoff(contenders=(Contender(rank=Length()),), keep_examples=7)
    assert budgeted(Top(keep_fraction=0.5), how).model_dump()["keep_examples"] == 7
    assert budgeted(Top(keep_fraction=0.5), how).keep_fraction is None
    assert budgeted(Top(budget_tokens=9), how).budget_tokens is None
    quota = budgeted(Quota(quotas={"a": 3}, quota_unit="tokens"), how)
    assert quota == Quota(keep_examples=7)
    assert budgeted(KCenter(keep_examples=40), how).keep_examples == 7
    tokens = Bakeoff(contenders=how.contenders, budget_tokens=900)
    for method in (Top(keep_fraction=0.5), KCenter(keep_examples=40), Quota(keep_examples=3)):
        assert budgeted(method, tokens) == type(method)(budget_tokens=900)
    for fields in ({}, {"keep_examples": 7, "budget_tokens": 900}):
        with pytest.raises(ValidationError, match="give one of"):
            Bakeoff(contenders=how.contenders, **fields)


def test_under_a_budget_in_tokens_what_is_long_gives_fewer_examples(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("keep_examples: 12\n", "budget_tokens: 300\n"), "utf-8")
    opened = Store.open(recipe.parent / "store")
    manifest = opened.describe(opened.resolve(bakeoff.fn(load_recipe(recipe), recipe.parent / "store")))
    kept = {line["contender"]: line["examples"] for line in manifest.summary["table"]}
    assert kept["length"] < kept["uniform"] < kept["near"]
    assert manifest.summary["budget_tokens"] == 300
    for ref in manifest.summary["choices"].values():
        assert tokens_of(opened.pool(DatasetRef.parse(ref))).sum() <= 300
    assert bakeoff_text(manifest.summary).startswith("at most 300 tokens each, 3 proxies each")


def test_a_bakeoff_stops_between_two_measurements_and_goes_on_there(recipe: Path) -> None:
    store = recipe.parent / "store"
    recipe.write_text(
        RECIPE.replace("{rank: {method: length}}", "{rank: {method: information-gain, labels: 48}}"), "utf-8"
    )
    loaded, seen = load_recipe(recipe), list[Event]()

    def stop(event: Event) -> None:
        seen.append(event)
        if event.kind == "progress" and event.done == wanted:
            (store / STOP_FILE).touch()

    wanted = 24  # labels of the ranking, eight at a time
    with pytest.raises(Stopped, match="stopped between two measurements"), listening(stop):
        bakeoff.fn(loaded, store)
    assert [e.done for e in seen if "one step on an example" in e.note] == [8, 16, 24]
    (store / STOP_FILE).unlink()
    wanted = 7  # proxies of the bake-off
    with pytest.raises(Stopped, match="stopped between two measurements"), listening(stop):
        bakeoff.fn(loaded, store)
    (store / STOP_FILE).unlink()
    wanted = -1
    opened = Store.open(store)
    assert opened.describe(opened.resolve(bakeoff.fn(loaded, store))).summary["winner"] != ""


def test_the_winner_can_be_named_where_the_selection_is(recipe: Path) -> None:
    words = RECIPE.replace("  use_best: true\n", "") + "select: {by: best-of-bakeoff}\n"
    recipe.write_text(words, "utf-8")
    assert load_recipe(recipe).model_dump() == _loaded(recipe, RECIPE).model_dump()
    recipe.write_text(words + "rank: {method: length}\n", "utf-8")
    with pytest.raises(RecipeError, match="the winner selects; remove `rank:`"):
        load_recipe(recipe)
    recipe.write_text(words.split("bakeoff:")[0] + "select: {by: best-of-bakeoff}\n", "utf-8")
    with pytest.raises(RecipeError, match="best-of-bakeoff needs a `bakeoff:` section with contenders"):
        load_recipe(recipe)


def _loaded(place: Path, text: str) -> Recipe:
    other = place.with_name("other.yaml")
    other.write_text(text, "utf-8")
    return load_recipe(other)


def test_what_a_bakeoff_lacks_is_told_at_once(recipe: Path) -> None:
    text = RECIPE.replace("target: aim\n", "").split("  tune:")[0]
    recipe.write_text(text.replace("- {rank: {method: length}}", "- {name: near, rank: {method: length}}"), "utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    told = "\n".join(caught.value.mistakes)
    for part in ("name a source with role 'target'", "add `backends: {tune:", "near stands there twice"):
        assert part in told
