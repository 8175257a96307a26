"""The search for one configuration: the smallest gain decides, mistakes are named at once, and a small one really runs."""

import json
from pathlib import Path

import pytest

from cli.searching import search_text
from flows.search_configuration import search_configuration
from schemas.errors import RecipeError
from schemas.search import load_search
from storage.store import Store
from tasks.search_configuration import Gain, bench_of_search, outcome_of_search, smallest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "recipes" / "self_guide_search.yaml"


def gain(task: str, change: float | None) -> Gain:
    return Gain(
        configuration="c", task=task, metric="rouge-l", examples=9, before=0.1, after=0.2, change=change,
        change_low=None, change_high=None,
    )  # fmt: skip


def test_a_configuration_is_as_good_as_what_it_does_for_the_task_that_gains_least():
    assert smallest([gain("a", 0.4), gain("b", -0.1), gain("c", 0.2)]) == -0.1
    assert smallest([gain("a", 0.4), gain("b", None)]) is None, "a task that was not measured leaves it unknown"
    assert smallest([]) is None


def test_the_shipped_search_is_valid_and_every_mistake_of_another_is_named(tmp_path):
    found = load_search(SHIPPED)
    assert set(found.methods()) == {"cool", "hot"}
    assert found.methods()["hot"].identity() != found.methods()["cool"].identity()
    text = SHIPPED.read_text("utf-8")
    bad = text.replace("{temperature: 0.6}", "{temperature: -1, sampels: 3}").replace("  tune: ", "  # tune: ")
    (tmp_path / "search.yaml").write_text(bad, "utf-8")
    with pytest.raises(RecipeError) as error:
        load_search(tmp_path / "search.yaml")
    told = str(error.value)
    assert "configurations.cool: temperature" in told
    assert "sampels" in told
    assert "add `backends: {tune: …}`" in told


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines(keepends=True)


def small(folder: Path) -> Path:
    """Two configurations on the two shipped SciTail tasks, a handful of rows each, in memory of one small model."""
    folder.mkdir()
    data = ROOT / "recipes" / "data"
    tasks = [line for line in _lines(data / "natural_instructions_tasks.jsonl") if "scitail" in line]
    (folder / "tasks.jsonl").write_text("".join(tasks[:1]), "utf-8")
    name = json.loads(tasks[0])["task"]
    dev = [line for line in _lines(data / "natural_instructions_dev.jsonl") if name in line]
    (folder / "dev.jsonl").write_text("".join(dev[:6]), "utf-8")
    text = SHIPPED.read_text("utf-8")
    for old, new in {
        "data/natural_instructions_": "", "examples: 24": "examples: 4", "max_candidates: 96": "max_candidates: 12",
        "prompts_per_round: 32": "prompts_per_round: 12", "epochs: [1, 3]": "epochs: [1]", "max_tokens: 48": "max_tokens: 16",
    }.items():  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (folder / "search.yaml").write_text(text, "utf-8")
    return folder / "search.yaml"


@pytest.mark.engine
def test_a_small_search_runs_is_remembered_and_prints_what_it_found(tmp_path):
    search = load_search(small(tmp_path / "in"))
    store = tmp_path / "store"
    ref = search_configuration.fn(search, store)
    found = outcome_of_search(store, ref, bench_of_search(search, store))
    assert found["chosen"] in ("cool-1", "hot-1")
    best = max(value for value in found["smallest_gain"].values())
    assert found["smallest_gain"][found["chosen"]] == best
    assert [row["examples"] for row in found["gains"]] == [6, 6]
    text = search_text(found)
    assert any(line.startswith(found["chosen"]) and line.endswith("chosen") for line in text.splitlines())
    before = len(list(Store.open(store).versions()))
    assert search_configuration.fn(search, store) == ref, "nothing is done twice"
    assert len(list(Store.open(store).versions())) == before
    assert Store.open(store).verify() == []
