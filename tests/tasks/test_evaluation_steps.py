"""A model that was really trained, evaluated by a recipe: a judge's preference and the harness's tasks in the store."""

import importlib.util
import json
from pathlib import Path

import pytest

from flows.curate import curate, curation
from schemas.errors import RecipeError
from schemas.lineage import Manifest
from schemas.recipe import Recipe, load_recipe
from storage.questions.show import show
from storage.reports.card import card
from storage.reports.model_card import note_evaluations
from storage.store import Store
from tasks.check import looks
from tasks.events import Event, listening
from tasks.leaderboard import leaderboard
from tasks.plan import plan_of
from tests.tasks.fakes_recipe import recipe

QUIZ = """
task: quiz
dataset_path: json
dataset_kwargs: {data_files: {test: quiz.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{gold}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 3.0}
"""
ITEMS = [
    {"question": "What is the capital of France?", "choices": ["Paris", "Rome"], "gold": 0},
    {"question": "How much is 2 plus 2?", "choices": ["5", "4"], "gold": 1},
    {"question": "What color is the sky?", "choices": ["red", "blue"], "gold": 1},
]


def evaluating(folder: Path, **changes: object) -> Recipe:
    """The recipe with a short real training, a judge that always prefers what it sees first, and a local task."""
    (folder / "quiz.yaml").write_text(QUIZ, "utf-8")
    (folder / "quiz.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS), "utf-8")
    backends = recipe(folder).model_dump(mode="json")["backends"]
    held_out = [
        json.loads(line) | {"kind": "odd" if i % 2 else "even"}
        for i, line in enumerate((folder / "target.jsonl").read_text("utf-8").splitlines())
    ]
    (folder / "held-out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out), "utf-8")
    sources = recipe(folder).model_dump(mode="json")["sources"]
    sources["held-out"]["path"] = str(folder / "held-out.jsonl")
    backends["judge"] = {
        "backend": "scripted",
        "rules": [{"when": "Which answer is better", "reply": "reason: I saw it first, verdict: A"}],
        "default": "no",
    }
    return recipe(
        folder,
        backends=backends,
        sources=sources,
        finetune={
            "by": {"backend": "trl", "model": "sprout", "adapter": "lora", "max_steps": 2, "batch_examples": 2},
            "row_losses": 0,
        },
        evaluate={
            "target": "held-out",
            "metrics": ["loss", "pairwise"],
            "max_new_tokens": 8,
            "slices": ["kind"],
            "pairwise": {"against": ["reference"], "max_examples": 3},
            "harness": {"tasks": [str(folder / "quiz.yaml")], "device": "cpu"},
        },
        **changes,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store, str]:
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs the extra `eval`")
    folder = tmp_path_factory.mktemp("evaluated")
    ref = curate.fn(evaluating(folder), folder / "store")
    return folder, Store.open(folder / "store"), ref


def evaluations(store: Store) -> tuple[Manifest, Manifest]:
    """The evaluation on examples, and the harness's."""
    both = [m for m in store.versions() if m.ref.stage == "evaluate"]
    return tuple(sorted(both, key=lambda m: "harness" in m.step.method))  # type: ignore[return-value]


@pytest.mark.timeout(300)
def test_verdicts_calls_and_figures_of_a_judge_are_in_the_store(done: tuple[Path, Store, str]) -> None:
    _, store, _ = done
    own, _ = evaluations(store)
    figures = {(m["metric"], m["slice"]): m for m in own.summary["measured"]}
    rate = figures["win-rate-reference", "all"]
    assert (rate["value"], rate["before"], rate["examples"]) == (0.5, 0.5, 3), "a judge of places decides nothing"
    assert figures["win-rate-reference", "source=held-out"]["value"] == 0.5, "slices as for every metric"
    assert figures["loss", "source=held-out"]["examples"] == 5
    assert [figures["loss", f"kind={kind}"]["examples"] for kind in ("even", "odd")] == [3, 2]
    scores = store.part(own.ref, "scores")
    assert scores["win_reference"].to_list() == [0.5, 0.5, 0.5, None, None]
    verdicts = store.part(own.ref, "sidecar/verdicts")
    assert verdicts.height == 6, "three examples, the trained and the untuned model"
    assert set(verdicts["outcome"]) == {"inconsistent"}
    calls = store.part(own.ref, "calls")
    assert set(calls["key"]) == {key for keys in verdicts["calls"].to_list() for key in keys}, "each verdict's calls"
    assert own.run["calls"] == calls.height
    assert own.step.backends["judge"]["backend"] == "scripted", "another judge is another evaluation"


def test_the_harness_s_task_is_measured_before_and_after_with_its_version(done: tuple[Path, Store, str]) -> None:
    _, store, _ = done
    _, harness = evaluations(store)
    (acc,) = harness.summary["measured"]
    assert (acc["metric"], acc["examples"]) == ("quiz/acc", 3)
    assert acc["before"] is not None
    assert acc["low"] <= acc["value"] <= acc["high"]
    assert harness.summary["tasks"]["quiz/acc"]["version"] == 3.0
    assert store.part(harness.ref, "sidecar/examples").height == 3


def test_figures_and_their_caveats_reach_the_board_the_card_and_the_page(done: tuple[Path, Store, str]) -> None:
    _, store, ref = done
    boards = {board.metric: board for board in leaderboard(store).boards}
    assert set(boards) == {"loss", "win-rate-reference", "quiz/acc"}
    assert boards["quiz/acc"].target == "quiz, version 3.0, 0 shown"
    page = show(store, ref)
    notes = " ".join(line for run in page.training for line in run.notes)
    assert "100 % of verdicts stayed with the place" in notes
    assert "quiz: version 3.0 of the task" in notes
    text = card(page)
    assert "win-rate-reference" in text
    assert "quiz/acc" in text
    assert "stayed with the place" in text


def test_a_plan_foretells_the_judge_s_calls(tmp_path: Path) -> None:
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs the extra `eval`")
    plan = plan_of(evaluating(tmp_path), tmp_path / "store", curation)
    own, harness = (step for step in plan.steps if step.stage == "evaluate")
    # at most three of the target's rows, against the reference, by both models, in both orders
    assert own.calls == (0, 3 * 2 * 2)
    assert (harness.method, harness.calls, harness.rows) == ("harness", (0, 0), (0, 0))


def test_the_model_s_own_card_tells_its_evaluations_once(done: tuple[Path, Store, str]) -> None:
    _, store, _ = done
    model = next(m.ref for m in store.versions() if m.ref.stage == "finetune")
    folder = store.root / "models" / str(model).replace("@", "-")
    text = (folder / "README.md").read_text("utf-8")
    assert text.count("## Evaluation") == 1
    assert "| quiz/acc | 3 |" in text
    assert "stayed with the place" in text
    assert "## Load it" in text, "the trainer's own words stay"
    assert note_evaluations(store, model, folder) is False, "nothing new to tell"
    assert (folder / "README.md").read_text("utf-8") == text


def test_a_rerun_computes_nothing(done: tuple[Path, Store, str]) -> None:
    folder, _, ref = done
    events: list[Event] = []
    with listening(events.append):
        assert curate.fn(evaluating(folder), folder / "store") == ref
    assert {event.kind for event in events if event.stage == "evaluate"} == {"reused"}


def test_a_recipe_that_asks_a_judge_needs_one_and_task_files_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n', "utf-8")
    text = """
name: demo
sources: {rows: rows.jsonl, held-out: {path: rows.jsonl, role: target}}
evaluate: {target: held-out, metrics: [pairwise], harness: {tasks: [tasks/quiz.yaml, arc_easy]}}
"""
    file = tmp_path / "recipe.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(
        RecipeError, match=r"evaluate\.pairwise: pairwise needs a backend; add `backends: \{judge: …\}`"
    ):
        load_recipe(file)
    file.write_text(text + "backends: {llm: {backend: scripted, default: maybe}}\n", "utf-8")
    loaded = load_recipe(file)
    assert loaded.evaluate is not None
    assert loaded.evaluate.harness is not None
    assert loaded.evaluate.harness.tasks == (str(tmp_path / "tasks" / "quiz.yaml"), "arc_easy")


def test_a_slice_is_a_field_s_plain_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['a'\]\[0\]|plain name"):
        recipe(tmp_path, evaluate={"target": "held-out", "slices": ["a'][0]"]})
    with pytest.raises(ValueError, match="sliced by anyway"):
        recipe(tmp_path, evaluate={"target": "held-out", "slices": ["source"]})


def test_check_names_a_task_file_that_is_not_there(tmp_path: Path) -> None:
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs the extra `eval`")
    asked = {"harness": {"tasks": [str(tmp_path / "none.yaml")]}}
    with pytest.raises(RecipeError, match=r"evaluate\.harness: .*none\.yaml cannot be read"):
        looks(recipe(tmp_path, evaluate=asked), "recipe.yaml")


def test_an_evaluation_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a source with role 'target' in `target:`, or benchmarks"):
        recipe(tmp_path, evaluate={"metrics": ["loss"]})
    with pytest.raises(ValueError, match="`metrics` is empty, so nothing would be measured"):
        recipe(tmp_path, evaluate={"target": "held-out", "metrics": []})
