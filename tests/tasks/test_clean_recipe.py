"""recipes/clean.yaml on files of any kind; and a correction that really happens: tuned here, judged by script, kept."""

import json
from pathlib import Path

import polars as pl
import pytest

from flows.curate import curate
from schemas.lineage import Manifest
from schemas.recipe import Recipe, load_recipe
from storage.questions.trace import trace
from storage.store import Store
from tests.outside_check import Outside

CLEAN = Path(__file__).resolve().parent.parent.parent / "recipes" / "clean.yaml"
COLORS = {"door": "green", "roof": "purple", "wall": "orange", "gate": "silver"}


def filtered(store: Store) -> Manifest:
    return next(m for m in store.versions() if m.step.method.get("method") == "clear-correct")


def written(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.engine
def test_a_wrong_answer_is_replaced_by_that_of_a_model_tuned_on_the_others(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"What color is the {thing}?", "input": "", "output": color} for thing, color in COLORS.items()
    ]
    rows.append({"instruction": "What color is the door?", "input": "", "output": "seventeen"})
    document = {
        "name": "colors",
        "sources": {"rows": str(written(tmp_path, rows))},
        "filter": {
            "method": "clear-correct",
            "threshold": {"value": 0.5},
            "samples": 0,
            "reflections": 1,
            "verdict_samples": 2,
            "verdict_reflections": 0,
            "candidate_draw": {"max_tokens": 12},
        },
        "backends": {
            "llm": {
                "backend": "scripted",
                "rules": [
                    {"when": "Answer A: green", "reply": "reason: it is a color, verdict: A"},
                    {"when": "Answer B: green", "reply": "reason: it is a color, verdict: B"},
                    {"when": "Proposed answer: seventeen", "reply": "explanation: a number, answer: B"},
                ],
                "default": "explanation: it is a color, answer: A",
            },
            "embed": {"backend": "hashing"},
            "tune": {"backend": "torch", "epochs": 25, "batch_size": 4, "learning_rate": 2e-3, "schedule": "constant"},
        },
    }
    ref = curate.fn(Recipe.model_validate(document), tmp_path / "store", "run")
    store = Store.open(tmp_path / "store")
    step = filtered(store)
    counts = step.counts.inputs[0]
    assert (counts.kept, counts.edited, counts.rejected, counts.quarantined) == (4, 1, 0, 0)
    pool = store.pool(store.resolve(ref))
    answers = sorted(pool["messages"].list.last().struct.field("content"))
    assert answers == sorted([*COLORS.values(), "green"])
    assert step.step.backends["nli"]["substitute"].startswith("cosine of embeddings instead of an NLI model")
    assert step.summary["audit"]["new answers"] == {"corrected": 1, "same": 4}

    links, calls = store.part(step.ref, "links"), store.part(step.ref, "calls")
    assert links.height == 1
    assert set(links["calls"][0]) <= set(calls["key"]), "the edit names its calls, the tuned model's among them"
    wrote = calls.filter(pl.col("key") == links["calls"][0][0])
    assert "green" in wrote["reply"][0]
    given = store.pool(dict(step.step.inputs)["pool"])
    wrong = given.filter(pl.col("messages").list.last().struct.field("content") == "seventeen")["id"][0]
    told = trace(store, wrong.hex())
    assert "corrected" in told.model_dump_json(), "both texts can be traced"
    for one in (outside := Outside(tmp_path / "store")).manifests:
        outside.check(one)
    assert store.verify() == []


def overridden(path: Path, *more: str) -> Recipe:
    """The shipped recipe over a file, with fakes for its models (the tuner stays real)."""
    scripted = "{backend: scripted, default: 'a short reply', default_logprob: hashed}"
    return load_recipe(
        CLEAN,
        [
            f"sources.instructions.path={path}",
            "sources.instructions.limit=null",
            f"backends.llm={scripted}",
            f"backends.judge={scripted}",
            "backends.embed={backend: hashing}",
            "backends.nli={backend: embedding, embed: {backend: hashing}}",
            "backends.tune={backend: torch, epochs: 0.1}",
            *more,
        ],
    )


@pytest.mark.engine
def test_the_recipe_cleans_a_file_of_unpleasant_rows_and_accounts_for_each(tmp_path: Path) -> None:
    good = [
        {"instruction": f"Explain {thing} number {n} in a sentence.", "input": "", "output": f"{thing} {n} is {thing}."}
        for thing in ("tides", "enzymes", "glaciers", "sonnets")
        for n in range(6)
    ]
    strange = [
        {"instruction": "اشرح المد والجزر", "input": "", "output": "المد والجزر حركة دورية لمياه البحر."},
        {"instruction": "🙂🙃?", "input": "", "output": "🎉🎉🎉"},
        {"instruction": "Say nothing.", "input": "", "output": ""},
        {"instruction": "Zero\u200bwidth", "input": "", "output": "\u200b"},
        {"instruction": "Write code.", "input": "", "output": "```python\nprint({'a': [1, 2]})\n```"},
        {"instruction": "Make a table.", "input": "", "output": "| a | b |\n|---|---|\n| 1 | 2 |"},
        {"instruction": "Write a long text.", "input": "", "output": "word " * 60_000},
        dict(good[0]),
    ]
    ref = curate.fn(overridden(written(tmp_path, good + strange)), tmp_path / "store", "run")
    store = Store.open(tmp_path / "store")
    assert store.verify() == []
    steps = {m.step.method.get("method"): m for m in store.versions()}
    assert {"exact", "minhash", "semantic", "heuristics", "clear-correct", "ngram-coverage"} <= set(steps)
    assert sum(steps["exact"].reasons.values()) == 1
    assert steps["heuristics"].reasons["empty-answer"] >= 1
    counts = steps["clear-correct"].counts.inputs[0]
    assert counts.kept + counts.edited + counts.rejected + counts.quarantined == counts.rows
    assert store.describe(store.resolve(ref)).summary["gate"]["status"] == "passed"


def test_the_recipe_as_shipped_is_valid_and_plans_its_calls() -> None:
    recipe = load_recipe(CLEAN)
    step = next(m for m in recipe.filter if m.name == "clear-correct")
    assert step.expected_calls(100, 50.0).calls == 100 * (2 + 4 + 2 + 1 + 2 * 5), (
        "samples, letters, gain, candidate, verdicts"
    )
    assert recipe.backends.named("nli").identity()["substitute"], "the stand-in is declared"
