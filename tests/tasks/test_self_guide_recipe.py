"""recipes/self_guide.yaml: its data, its rows per task with the embedded model, and a line per task in what is printed."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli.render import result_lines
from flows.curate import curate
from methods.measuring.evaluation import evaluate
from schemas.examples import turns
from schemas.identity import digest16
from schemas.recipe import load_recipe
from storage.store import Store
from tasks.evaluate import task_of
from tests.methods.llm_doubles import AnswersBy

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "recipes" / "data"


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"natural_instructions_{name}.jsonl").read_text("utf-8").splitlines()]


def test_what_is_measured_was_never_shown():
    tasks, test, dev = lines("tasks"), lines("test"), lines("dev")
    shown = {instance["input"] for task in tasks for instance in task["instances"]}
    held, tried = {row["input"] for row in test}, {row["input"] for row in dev}
    assert len(held) == len(test) == 400
    assert not shown & held
    assert not shown & tried
    assert not held & tried
    assert Counter(row["task"] for row in test) == {task["task"]: 100 for task in tasks}
    for task in tasks:
        labels = {row["output"] for row in test if row["task"] == task["task"]}
        assert not task.get("labels") or labels == set(task["labels"]), "no task is measured on one label only"


@pytest.mark.engine
def test_the_embedded_model_writes_the_wanted_rows_of_each_task(tmp_path):
    small = ["generate.by.examples=4", "generate.by.max_candidates=24", "generate.by.samples=3", "finetune=null"]
    recipe = load_recipe(
        ROOT / "recipes" / "self_guide.yaml", [*small, "evaluate=null", "generate.by.prompts_per_round=8"]
    )
    ref = curate.fn(recipe, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    made = next(m for m in store.versions() if m.step.stage == "generate")
    notes = made.summary["notes"]["tasks"]
    assert set(notes) == {task["task"] for task in lines("tasks")}
    for name, found in notes.items():
        assert found["candidates"] == found["accepted"] + sum(found["refused"].values()), name
    assert all(notes[name]["accepted"] == 4 for name in notes if "classification" in name)
    answers = [messages[-1]["content"] for messages in store.pool(made.ref)["messages"].to_list()]
    assert answers.count("entails") == answers.count("neutral") == 4
    assert store.pool(store.resolve(ref)).height >= 8
    assert store.verify() == []


def test_each_task_of_a_target_gets_a_line_of_its_own():
    asked = [("a", "x", "mood"), ("b", "y", "mood"), ("c", "x", "topic")]
    rows = pl.DataFrame(
        {
            "id": [digest16(text.encode()) for text, *_ in asked],
            "source": ["held-out"] * 3,
            "extra": [json.dumps({"task": task}) for *_, task in asked],
            "messages": [turns(("user", text), ("assistant", said)) for text, said, _ in asked],
        }
    )
    found = evaluate(
        AnswersBy(lambda _: "x"), rows.with_columns(task_of()), rng=np.random.default_rng(0), metrics=("exact-match",),
        slices=("source", "task"), baseline=AnswersBy(lambda _: "z"),
    )  # fmt: skip
    told = result_lines(found.report.model_dump()["measured"])
    assert [text.split(" [")[0] for text in told] == [
        "exact-match 0.6667", "exact-match (task=mood) 0.5", "exact-match (task=topic) 1",
    ]  # fmt: skip
    assert told[2] == "exact-match (task=topic) 1 [1, 1], before 0 [0, 0], change 1 [1, 1]"
    plain = evaluate(AnswersBy(lambda _: "x"), rows.with_columns(task=pl.lit(None, pl.String)), rng=np.random.default_rng(0),
                     metrics=("exact-match",), slices=("task",))  # fmt: skip
    assert [line.slice for line in plain.report.measured] == ["all"], "rows that name no task make no slice of none"
