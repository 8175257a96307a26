"""recipes/responses.yaml through the real store: what rejection sampling calls right is what the data says is right."""

import json
from pathlib import Path

import polars as pl
import pytest

from backends.llm.scripted import Scripted
from flows.curate import curate
from schemas.lineage import Manifest
from schemas.recipe import load_recipe
from storage.questions.cost import cost
from storage.questions.trace import trace
from storage.store import Store

ROOT = Path(__file__).resolve().parent.parent.parent
SOLUTIONS = [
    json.loads(line) for line in (ROOT / "recipes/data/gsm8k_candidates.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store after one run; the student is a script with a log-probability for every token, not a model."""
    recipe = load_recipe(ROOT / "recipes" / "responses.yaml")
    student = Scripted(default="", default_logprob="hashed")
    recipe = recipe.model_copy(update={"backends": recipe.backends.model_copy(update={"student": student})})
    folder = tmp_path_factory.mktemp("responses") / "store"
    curate.fn(recipe, folder)
    return Store.open(folder)


def step(store: Store, method: str) -> Manifest:
    return next(m for m in store.versions() if m.step.method.get("method") == method)


def answers(store: Store, method: str) -> set[tuple[str, str]]:
    pool = store.pool(step(store, method).ref)
    return {(messages[0]["content"], messages[-1]["content"]) for messages in pool["messages"].to_list()}


def test_the_recipe_completes_and_its_store_is_sound(store: Store):
    assert store.verify() == []
    assert store.describe(store.resolve("responses")).counts.rows_out == len(answers(store, "grape"))


def test_every_path_is_a_solution_that_the_data_calls_right_and_no_right_question_is_lost(store: Store):
    right = {(one["question"], one["solution"].strip()) for one in SOLUTIONS if one["is_correct"]}
    paths = {(question, text.strip()) for question, text in answers(store, "rejection-sampling")}
    assert paths <= right
    reasons = step(store, "rejection-sampling").summary["refused"]
    assert reasons["wrong-answer"] == sum(not one["is_correct"] for one in SOLUTIONS)
    assert sum(reasons.values()) + len(paths) == len(SOLUTIONS)


def test_grape_leaves_one_path_for_each_question_that_has_any(store: Store):
    paths, chosen = answers(store, "rejection-sampling"), answers(store, "grape")
    assert chosen <= paths
    assert sorted(question for question, _ in chosen) == sorted({question for question, _ in paths})


def test_pairs_put_a_right_solution_before_a_wrong_one(store: Store):
    right = {one["solution"].strip() for one in SOLUTIONS if one["is_correct"]}
    wrong = {one["solution"].strip() for one in SOLUTIONS if not one["is_correct"]}
    pairs = store.pool(step(store, "divpo").ref).select(
        pl.col("messages").list.last().struct.field("content").alias("chosen"),
        pl.col("worse").list.last().struct.field("content").alias("worse"),
    )
    mixed = [row for row in pairs.iter_rows() if row[0].strip() in right and row[1].strip() in wrong]
    assert pairs.height > 0
    assert len(mixed) == sum(0 < n < 4 for n in _right_per_question().values())


def _right_per_question() -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in SOLUTIONS:
        counts[one["question"]] = counts.get(one["question"], 0) + one["is_correct"]
    return counts


def test_each_scoring_is_a_call_of_its_step_and_of_the_row_that_it_chose(store: Store):
    """Grape reads every right path once under the student: so many calls of kind score, none of them with a text."""
    grape = step(store, "grape")
    calls = store.part(grape.ref, "calls")
    assert set(calls["kind"]) == {"score"}
    assert calls["key"].n_unique() == calls.height == len(answers(store, "rejection-sampling"))
    assert calls["request"].null_count() == calls["reply"].null_count() == calls.height
    assert calls["prompt_tokens"].min() > 0
    assert cost(store).money.scorings == calls.height + sum(
        store.part(m.ref, "calls").filter(pl.col("kind") == "score").height
        for m in store.versions()
        if m.ref != grape.ref and "calls" in m.parts
    )
    row = store.pool(grape.ref)["id"][0].hex()
    wrote = [call for call in trace(store, row, within=grape.ref).creation.calls if call.kind == "score"]
    assert wrote, "the scoring that its evidence names"
    assert {call.key for call in wrote} <= {key.hex() for key in calls["key"]}
