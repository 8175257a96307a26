"""Answers in a terminal: what they say, and that no text of a dataset can drive the terminal."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import render
from cli.plain import LONGEST, block, line, table
from storage.questions.catalogue import catalogue
from storage.questions.diff import diff
from storage.questions.lineage import lineage
from storage.questions.query import query
from storage.questions.show import show
from storage.questions.trace import trace
from storage.questions.views import StepView, Training
from tests.seeded import Seeded, seeded

#: Clear screen, colour, title, device report, bell, backspace, carriage return, C1 control, bidi override, zero width.
HOSTILE = "\x1b[2J\x1b[31m\x1b]0;pwned\x07\x1b[6n\x08\r\x9b31m\u202etxt\u200b\u2066\nNEXT\x00"
FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")

ANSWERS: dict[str, Callable[[Seeded], str]] = {
    "catalogue": lambda world: render.catalogue_text(catalogue(world.store)),
    "catalogue of everything": lambda world: render.catalogue_text(catalogue(world.store, every_version=True)),
    "show": lambda world: render.show_text(show(world.store, "support-bot@v2")),
    "trace of a dropped one": lambda world: render.trace_text(trace(world.store, world.dolly[0])),
    "trace of a generated one": lambda world: render.trace_text(trace(world.store, world.synthetic[0])),
    "trace of an edited one": lambda world: render.trace_text(trace(world.store, world.dolly[2])),
    "trace of a seed": lambda world: render.trace_text(trace(world.store, world.seeds[0])),
    "tree": lambda world: render.lineage_text(lineage(world.store, "support-bot@v1")),
    "graphviz": lambda world: render.lineage_dot(lineage(world.store, "support-bot@v1")),
    "mermaid": lambda world: render.lineage_mermaid(lineage(world.store, "support-bot@v1")),
    "diff": lambda world: render.diff_text(diff(world.store, "support-bot@v1", "support-bot@v2")),
    "query": lambda world: render.table_text(query(world.store, "support-bot", "select * from examples limit 5")),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("hostile"), hostile=HOSTILE)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_no_answer_drives_the_terminal(hostile: Seeded, answer: Callable[[Seeded], str]) -> None:
    text = answer(hostile)
    assert FORBIDDEN.search(text) is None, repr(FORBIDDEN.search(text))


def test_hostile_text_is_shown_as_escapes_not_left_out(hostile: Seeded) -> None:
    text = ANSWERS["trace of a generated one"](hostile)
    assert "\\x1b[2J" in text
    assert "\\u202e" in text


def test_trace_answers_first_and_shows_the_way(world: Seeded) -> None:
    told = ANSWERS["trace of a dropped one"](world).splitlines()
    assert told[0].startswith("Dropped at filter by clear: confidence (low-confidence); score 0.2 <= threshold 0.42")
    assert any("Kept at filter by heuristics: score 9 >= threshold 3 (margin 6)" in one for one in told)


def test_a_generated_example_shows_prompt_and_unknown_price(world: Seeded) -> None:
    assert "Come up with a series of tasks:" in ANSWERS["trace of a generated one"](world)
    assert "cost unknown" in render.trace_text(trace(world.store, world.synthetic[9]))


def test_an_edit_shows_old_and_new_lines(world: Seeded) -> None:
    text = ANSWERS["trace of an edited one"](world)
    assert "  - Answer 2 explains the topic in nine plain words" in text
    assert "  + Answer 2 explains the topic in nine plain words (corrected)" in text


def test_the_tree_tells_a_shared_version_once(world: Seeded) -> None:
    text = ANSWERS["tree"](world)
    shared = str(world.steps["decontaminate"])
    assert text.count(shared) == 2
    assert text.count("(above)") == 1
    assert text.splitlines()[0].startswith(str(world.v1))


def test_graphviz_and_mermaid_hold_every_edge(world: Seeded) -> None:
    graph = lineage(world.store, "support-bot@v1")
    assert render.lineage_dot(graph).count(" -> ") == len(graph.edges)
    mermaid = render.lineage_mermaid(graph).splitlines()
    assert sum("-->" in one or "-.->" in one for one in mermaid) == len(graph.edges)
    assert all('"' not in re.sub(r'"[^"]*"', "", one) for one in mermaid)


def test_tables_fit_and_align_wide_characters() -> None:
    told = table(("name", "n"), [("日本語", 5), ("a" * 300, 12)], right=(1,), width=40).splitlines()
    assert told[2] == "日本語" + " " * 30 + "   5"
    assert all(len(one) <= 40 for one in told[3:])
    assert told[3].endswith("…  12")
    assert line("a\n\tb\x1b[0m") == "a b\\x1b[0m"


def test_an_empty_store_says_what_to_type(tmp_path: Path) -> None:
    from storage.store import Store

    told = render.catalogue_text(catalogue(Store.open(tmp_path)))
    assert told == "no dataset has a name yet; `provender ls --all` lists every version\n0 versions in the store"


def test_a_run_says_which_check_keeps_the_gate_shut() -> None:
    says = "CC-BY-NC-4.0 forbid commercial use; set finetune.non_commercial_ok if that is fine"
    written = {
        "dataset": "publish@6d536b7aefbab486", "tag": "clean@v1", "examples": 2, "digest": "ab" * 32, "files": ["/x"],
        "gate": "failed", "gate_open_points": [{"name": "licences", "status": "failed", "says": says}],
    }  # fmt: skip
    told = render.outcome_text(written, Path("store")).splitlines()
    assert told[0] == "dataset  clean@v1: 2 examples, gate failed"
    assert told[2] == f"         gate, licences: failed, {says}"


def test_an_evaluation_by_itself_names_the_training_that_it_measured() -> None:
    inputs = (("model", "finetune@0123456789abcdef"), ("pool", "ingest@0123456789abcdef"))
    step = StepView(ref="evaluate@fedcba9876543210", stage="evaluate", method="evaluate", says="", inputs=inputs)
    notes = ("1 of 3 examples left out: no-tests",)
    told = render.training_text(Training(step=step, kind="evaluate", model=None, metrics=(), notes=notes))
    assert told.splitlines() == [
        "evaluate finetune@0123456789abcdef: evaluate@fedcba9876543210",
        "  1 of 3 examples left out: no-tests",
    ]


def test_a_line_without_an_end_is_cut_and_what_is_left_is_counted() -> None:
    assert block("a\n" + "b" * (LONGEST + 1_000_000)) == f"  a\n  {'b' * LONGEST} … 1,000,000 more characters"
    assert block("b" * LONGEST) == "  " + "b" * LONGEST


def test_a_training_says_that_its_gate_was_opened(world: Seeded) -> None:
    run = show(world.store, "support-bot").training[0]
    opened = run.model_copy(update={"gate": "contamination: 1 flagged; overridden: a study"})
    assert "gate" not in render.training_text(run)
    assert "\n  gate overridden: contamination: 1 flagged; overridden: a study" in render.training_text(opened)
