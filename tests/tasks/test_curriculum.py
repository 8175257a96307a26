"""A curriculum's order goes from the mixture through publishing to the trainer, or the training does not start."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.curate import curate
from schemas.errors import UsageError
from schemas.recipe import Recipe
from storage.store import Store


def recipe(folder: Path, order: str) -> Recipe:
    for name, size in (("sums", 30), ("jokes", 20)):
        rows = [{"instruction": f"{name} number {i}", "input": "", "output": f"well, {name} {i}"} for i in range(size)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    document: dict[str, Any] = {
        "name": "staged",
        "sources": {name: {"path": str(folder / f"{name}.jsonl"), "license": "MIT"} for name in ("sums", "jokes")},
        "mix": {
            "method": "beyond-iid", "interactions": {"jokes": {"sums": 0.5}}, "curriculum": "dependency",
            "check_seeds": 0, "total_examples": 50,
        },
        "finetune": {
            "override_gate": "nothing is measured",
            "by": {"backend": "pretend", "order": order, "batch_examples": 5, "max_steps": 3},
        },
        "backends": {"tune": {"backend": "simulated", "skills": ["sums", "jokes"]}},
    }  # fmt: skip
    return Recipe.model_validate(document)


def test_what_helps_the_others_is_trained_on_first(tmp_path: Path) -> None:
    curate.fn(recipe(tmp_path, "sequential"), tmp_path / "store", "first")
    store = Store.open(tmp_path / "store")
    published = next(m for m in store.versions() if m.step.stage == "publish")
    assert published.summary["ordered"] is True
    assert published.summary["stages"] == {"sums": 0, "jokes": 1}
    order = store.pool(published.ref)["source"].to_list()
    assert order == ["sums"] * order.count("sums") + ["jokes"] * order.count("jokes")
    assert order.count("jokes") >= 19, "the smaller source is there as well"
    plan = json.loads(next((tmp_path / "store" / "models").glob("*/training.json")).read_text("utf-8"))
    given = [one for batch in plan["first_batches"] for one in batch]
    by_id = dict(store.pool(published.ref).select(pl.col("id").bin.encode("hex"), "source").iter_rows())
    assert [by_id[one] for one in given] == order
    ids = store.pool(published.ref)["id"].to_list()
    assert ids != sorted(ids), "shuffled within a stage"


def test_a_training_that_would_shuffle_a_curriculum_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"is a curriculum and this training would shuffle it; set `order: sequential`"
    ):
        curate.fn(recipe(tmp_path, "shuffled"), tmp_path / "store", "first")
    assert not list((tmp_path / "store").glob("models/*/training.json"))


def test_three_passes_are_written_out_in_their_order(tmp_path: Path) -> None:
    given = recipe(tmp_path, "sequential").model_dump(mode="json")
    given["mix"] |= {"passes": 3, "repeat_early": 0.2, "hold_back": 0.5, "reach": 0.0}
    curate.fn(Recipe.model_validate(given), tmp_path / "store", "first")
    store = Store.open(tmp_path / "store")
    published = next(m for m in store.versions() if m.step.stage == "publish")
    assert published.summary["ordered"] is True
    assert sum(part["examples"] for part in published.summary["passes"]) == 150
    rows = store.pool(published.ref)
    order, ids = rows["source"].to_list(), rows["id"].to_list()
    assert (order.count("sums"), order.count("jokes")) == (90, 60)
    # the first pass: 30 sums, 6 of them twice, then half of the jokes
    assert order[:36] == ["sums"] * 36
    assert order[36:46] == ["jokes"] * 10
    assert len(set(ids[:36])) == 30
    # the second: everything once, mixed
    assert len(set(ids[46:96])) == 50
    assert order[46:96] != sorted(order[46:96])
    # the third: without as many sums as were repeated, and half of the jokes twice
    assert (order[96:].count("sums"), order[96:].count("jokes")) == (24, 30)
