"""recipes/code.yaml through the real store and the real sandbox: what the interpreter said decides what a row says."""

import json
from pathlib import Path

import pytest

from backends.sandbox.auto import AutoSandbox
from flows.curate import curate, curation
from methods.texts.edit_sequences import SEPARATOR
from schemas.errors import BackendError
from schemas.recipe import Recipe, load_recipe
from storage.store import Store
from tasks.plan import plan_of

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = ROOT / "recipes" / "code.yaml"
WRITTEN = [json.loads(line) for line in (ROOT / "recipes/data/code_candidates.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> None:
    try:
        AutoSandbox().open()
    except BackendError as error:
        pytest.skip(f"no sandbox here: {error}")


def changed(**keys: object) -> Recipe:
    document = load_recipe(RECIPE).model_dump(mode="json")
    return Recipe.model_validate({**document, **keys})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store after one run without training; no model is asked by any other step."""
    folder = tmp_path_factory.mktemp("code") / "store"
    snippets = load_recipe(RECIPE).sources["snippets"].model_dump(mode="json") | {"limit": 120}
    sources = {**load_recipe(RECIPE).model_dump(mode="json")["sources"], "snippets": snippets}
    curate.fn(changed(finetune=None, evaluate=None, sources=sources), folder)
    return Store.open(folder)


def rows(store: Store, method: str) -> list[tuple[str, str]]:
    (step,) = (m for m in store.versions() if m.step.method.get("method") == method)
    return [(turns[0]["content"], turns[-1]["content"]) for turns in store.pool(step.ref)["messages"].to_list()]


def test_the_whole_recipe_plans_every_stage(tmp_path: Path) -> None:
    planned = plan_of(load_recipe(RECIPE), tmp_path / "store", curation)
    stages = [step.stage for step in planned.steps]
    assert [stages.count(stage) for stage in ("generate", "dedup", "decontaminate", "finetune", "evaluate")] == [
        2,
        2,
        1,
        1,
        1,
    ]


def test_a_program_is_called_good_where_its_tests_passed_and_only_there(store: Store) -> None:
    by_text = {one["solution"].strip(): one["written_by"] for one in WRITTEN}
    judged = rows(store, "leti")
    good = [by_text[answer.strip()] for question, answer in judged if question.startswith("<|good|>")]
    bad = [by_text[answer.strip()] for question, answer in judged if question.startswith("<|bad|>")]
    assert (len(good), set(good)) == (34, {"human"})
    assert len(bad) == len(judged) - 34
    assert bad.count("model") > 30
    assert any("AssertionError" in question for question, _ in judged), "with the interpreter's words"


def test_a_program_becomes_edits_and_the_published_set_is_checked_against_the_code_benchmarks(store: Store) -> None:
    edits = rows(store, "lintseq")
    assert len(edits) > 20
    assert any(answer.count(SEPARATOR) > 3 for _, answer in edits)
    published = store.describe(store.resolve("code"))
    assert {row["source"] for row in published.summary["composition"]} == {"judged", "edits"}
    checks = {check["name"]: check for check in published.summary["gate"]["checks"]}
    assert checks["contamination"]["status"] == "passed"
    assert "humaneval, mbpp" in checks["contamination"]["says"]
    assert store.verify() == []


def solution(name: str, tests: str) -> str:
    return f"Double it:\n```python\ndef {name}(x):\n    return 2 * x\n```\n\n<tests>\n```python\n{tests}\n```\n</tests>"


def test_with_a_teacher_new_tasks_come_first_and_only_answers_that_pass_their_tests_are_published(
    tmp_path: Path,
) -> None:
    """The step that the recipe's head shows; the teacher is a script that knows two tasks, and solves one."""
    rules = [
        {"when": "floor_Min", "reply": "arithmetic"},
        {"when": "<code>", "reply": "lists"},
        {"when": "arithmetic\n", "reply": "Write a function that doubles a number."},
        {"when": "<concepts>", "reply": "Write a function that doubles a list."},
        {"when": "doubles a number", "reply": solution("twice", "assert twice(2) == 4")},
    ]
    llm = {"backend": "scripted", "rules": rules, "default": solution("double", "assert double([1]) == [2]")}
    step = {"name": "self-aligned", "seeds": "programs", "by": {"method": "self-code-align", "samples": 2}}
    off = dict.fromkeys(("rank", "select", "mix", "finetune", "evaluate"))
    curate.fn(changed(generate=[step], backends={"llm": llm}, **off), tmp_path / "store")
    store = Store.open(tmp_path / "store")
    ((question, answer),) = rows(store, "self-code-align")
    assert question == "Write a function that doubles a number."
    assert answer.endswith("return 2 * x\n```"), "the tests stay behind"
    assert store.describe(store.resolve("code")).counts.rows_out == 1
    (made,) = (m for m in store.versions() if m.step.method.get("method") == "self-code-align")
    refused = store.part(made.ref, "refused")["reason"].to_list()
    assert "tests-failed" in refused, "[1] + [1] is no [2]"
