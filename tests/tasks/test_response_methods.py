"""Every response-choice method through the real store, cache and lineage, on the scripted engine: rows with a whole pedigree."""

import json
from pathlib import Path

import polars as pl
import pytest

from flows.curate import curate
from schemas.recipe import Recipe
from storage.store import Store
from tests.outside_check import Outside

ROWS = [
    {"instruction": "What is 2+2?", "output": "2+2=4, so the answer is 4.", "gold": "4"},
    {"instruction": "What is 2+2?", "output": "The answer is 5.", "gold": "4"},
    {"instruction": "What is 2+2?", "output": "1+3=4. The answer is 4.", "gold": "4"},
    {"instruction": "Name a river.", "output": "The Seine.", "gold": "Seine"},
    {"instruction": "Say nothing.", "output": "", "gold": ""},
]
STEPS = {
    "rft": {"method": "rejection-sampling", "samples": 3, "reference": "gold"},
    "best": {"method": "best-of-n", "samples": 2, "candidates": "both"},
    "fitting": {"method": "grape", "candidates": "both", "samples": 2, "own_samples": "allow"},
    "rehearsed": {"method": "self-rehearsal"},
    "spun": {"method": "spin"},
    "diverse": {"method": "divpo", "samples": 3, "reward": "reference", "reference": "gold", "candidates": "both"},
    "evolved": {"method": "evol-instruct", "rounds": 2},
    "reasoned": {"method": "rationales", "check": False},
    "criticized": {"method": "critique"},
    "reflected": {"method": "reflection"},
    "responses": {"method": "response-tuning", "refine": True},
    "turned": {
        "method": "back-translation",
        "pivots": ["German"],
        "min_entailment": 0,
        "min_similarity": -1,
        "max_similarity": 1,
    },
    "chained": {"method": "best-of-n", "scorer": "agreement", "candidates": "given"},
}
RULES = [
    {"pattern": "So the answer is <answer>", "reply": "One looks it up. So the answer is 4."},
    {"when": "<first_prompt>", "reply": '{"reason": "more", "equal": false}'},
    {"when": "<reference>", "pattern": "(?s)<reference>.*<answer>", "reply": '{"explanation": "same", "answer": "A"}'},
    {"when": "<answer>", "pattern": "<answer>", "reply": '{"reason": "fine", "score": 7}'},
    {"pattern": "Follow-up Reasoning:", "reply": "Alternative Reasoning: count.\nFollow-up Reasoning: count on."},
    {"pattern": "Conclusion: right", "reply": "It adds up.\nConclusion: right"},
    {"pattern": "Language: English", "reply": "How much are two and two?"},
    {"pattern": "Language: German", "reply": "Was ist zwei und zwei?"},
    {"pattern": "<prompt>", "reply": "What is 2+2, and why?"},
    {"pattern": "What is 2", "replies": ["2+2=4, the answer is 4.", "3+1=4, so the answer is 4.", "The answer is 6."]},
    {"pattern": "Say nothing", "failure": "timeout"},
]


def run(folder: Path) -> tuple[Store, str]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    steps = [{"name": name, "seeds": "rows", "keep": name == "chained", "by": by} for name, by in STEPS.items()]
    steps[-1]["seeds"] = "rft"
    recipe = Recipe.model_validate(
        {
            "name": "answers",
            "sources": {"rows": {"path": str(folder / "rows.jsonl"), "license": "MIT", "role": "seeds"}},
            "generate": steps,
            "backends": {
                "llm": {"backend": "scripted", "rules": RULES, "default": "A river, the Loire.", "default_logprob": "hashed"},
                "embed": {"backend": "hashing"},
            },
        }
    )  # fmt: skip
    ref = curate.fn(recipe, folder / "store")
    return Store.open(folder / "store"), ref


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return run(tmp_path_factory.mktemp("answers"))[0]


def test_every_step_commits_and_an_outsider_finds_every_row_accounted_for(store: Store):
    assert len([m for m in store.versions() if m.step.stage == "generate"]) == len(STEPS)
    outside = Outside(store.root)
    assert [outside.check(ref) for ref in outside.manifests]
    assert store.verify() == []


def test_every_method_made_rows(store: Store):
    made = {str(m.step.method["method"]): m.counts.created for m in store.versions() if m.step.stage == "generate"}
    assert len(made) == len(STEPS) - 1  # best-of-n stands twice
    assert min(made.values()) > 0, made


def test_a_second_run_pays_for_nothing_and_reaches_the_same_refs(tmp_path: Path):
    first, ref = run(tmp_path)
    versions = {str(m.ref) for m in first.versions()}
    again, same = run(tmp_path)
    assert same == ref
    assert {str(m.ref) for m in again.versions()} == versions


def test_pairs_have_their_worse_answer_in_the_store(store: Store):
    spun = next(m for m in store.versions() if m.step.method.get("method") == "spin")
    pool = store.pool(spun.ref)
    assert pool["worse"].null_count() == 0
    assert pool.select(pl.col("worse").list.len()).to_series().to_list() == [1] * pool.height
