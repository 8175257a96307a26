"""A preference example whose two answers change places: the edit, its lineage, and the way back out."""

import json
from pathlib import Path

import polars as pl

from flows.curate import curate
from schemas.recipe import Recipe
from storage.questions.trace import trace
from storage.store import Store
from tests.outside_check import Outside


def test_swapped_answers_are_an_edit_with_both_texts_kept(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Name a river.", "chosen": "A lamp.", "rejected": "The Seine."},
        {"prompt": "Name a hill.", "chosen": "Montmartre.", "rejected": "A spoon."},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    right = ("The Seine.", "Montmartre.")
    document = {
        "name": "pairs",
        "sources": {"pairs": str(path)},
        "filter": {"method": "preference", "worse_preferred": "swap", "canaries": 0},
        "backends": {
            "judge": {
                "backend": "scripted",
                "rules": [
                    {"when": f"Answer {place}: {text}", "reply": f"verdict: {place}"}
                    for place in "AB"
                    for text in right
                ],
                "default": "verdict: tie",
            }
        },
    }
    ref = curate.fn(Recipe.model_validate(document), tmp_path / "store", "run")
    store = Store.open(tmp_path / "store")
    pool = store.pool(store.resolve(ref))
    pairs = {
        m[0]["content"]: (m[-1]["content"], w[0]["content"])
        for m, w in zip(pool["messages"].to_list(), pool["worse"].to_list(), strict=True)
    }
    assert pairs == {"Name a river.": ("The Seine.", "A lamp."), "Name a hill.": ("Montmartre.", "A spoon.")}
    step = next(m for m in store.versions() if m.step.method.get("method") == "preference")
    counts = step.counts.inputs[0]
    assert (counts.kept, counts.edited, counts.rejected) == (1, 1, 0)
    given = store.pool(dict(step.step.inputs)["pool"])
    wrong = given.filter(pl.col("messages").list.last().struct.field("content") == "A lamp.")["id"][0]
    told = trace(store, wrong.hex()).model_dump_json()
    assert "swapped" in told
    outside = Outside(tmp_path / "store")
    for one in outside.manifests:
        outside.check(one)
    assert store.verify() == []
