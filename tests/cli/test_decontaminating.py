"""`decontaminate` and `benchmarks` as a user has them: tables, JSON, exit codes, verdicts that stay."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.reviewing import _pieces, _window, side_by_side
from schemas.errors import ProvenderError
from storage.packs.reviews import hits, record
from tests.seeded import seeded
from tests.tasks.fakes_recipe import LEAK


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def the_environment_as_it_was() -> Iterator[None]:
    """The command line sets variables for the libraries it is about to import."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def provender(*words: str, home: Path) -> Done:
    """A command, in this process: importing everything anew costs more than running it."""
    os.environ.update(PROVENDER_HOME=str(home), PROVENDER_STORE=str(home / "store"))
    with contextlib.chdir(home):
        done = CliRunner().invoke(app, list(words))
    if isinstance(done.exception, ProvenderError):
        return Done(done.exception.exit_code, done.stdout, str(done.exception))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def answer(*words: str, home: Path, code: int = 0) -> Any:
    done = provender(*words, "--json", home=home)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    rows = [
        {"instruction": f"Describe river number {i} for a reader.", "output": f"It is long. {i}"} for i in range(40)
    ]
    rows[3]["instruction"] = LEAK.upper()
    rows[9]["instruction"] = "How many mills stand by the river at noon on the first of May?"
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    item = {"q": rows[9]["instruction"], "key": "m1"}
    (folder / "exam.jsonl").write_text(json.dumps(item) + "\n", "utf-8")
    return folder


def test_a_file_is_checked_reviewed_and_reported_without_a_recipe(home: Path) -> None:
    added = answer("benchmarks", "add", "exam.jsonl", "--column", "prompt=q", "--column", "item=key", home=home)
    assert (added["name"], added["version"], added["items"]) == ("exam", 1, 1)
    assert [p["origin"] for p in answer("benchmarks", home=home) if p["name"] == "exam"] == ["added"]
    found = answer("decontaminate", "check", "rows.jsonl", "-m", "exact", "-m", "ngram-coverage", home=home)
    assert (found["examples"], found["flagged"]) == (40, 2)
    met = {(f["method"], f["benchmark"], f["rule"], f["items_hit"]) for f in found["found"] if f["rule"]}
    assert met == {
        ("exact", "exam", "exact", 1), ("exact", "gsm8k", "exact", 1),
        ("ngram-coverage", "exam", "ngram-coverage", 1), ("ngram-coverage", "gsm8k", "ngram-coverage", 1),
    }  # fmt: skip
    step = next(f["step"] for f in found["found"] if f["method"] == "exact")
    (hit,) = answer("decontaminate", "review", step, "--benchmark", "gsm8k", home=home)
    assert (hit["item"], hit["item_text"][:5], hit["review"]) == ("0", "Janet", None)
    said = answer("decontaminate", "review", step, "--hit", hit["key"][:9], "--accept", "--who", "ada", home=home)
    assert (said["verdict"], said["who"], said["number"]) == ("accept", "ada", 1)
    reviewed = {p["benchmark"]: p for p in answer("decontaminate", "report", step, home=home)["precision"]}
    assert (reviewed["gsm8k"]["precision"], reviewed["exam"]["precision"]) == (1.0, None)
    shown = provender("decontaminate", "review", step, home=home)
    assert "⟦How many mills stand by the river at noon on the first of May⟧?" in shown.stdout
    assert "Janet" not in shown.stdout, "a reviewed hit is not shown again"


def test_the_verb_alone_still_drops_and_a_script_may_fail_on_hits(home: Path) -> None:
    done = answer("decontaminate", "rows.jsonl", "--against", "gsm8k", "--without-prefect", home=home)
    assert (done["reasons"], done["counts"]["rows_out"]) == ({"ngram-coverage": 1}, 39)
    strict = ["decontaminate", "check", "rows.jsonl", "--against", "gsm8k", "--fail-above"]
    assert answer(*strict, "0.02", home=home, code=7)["flagged"] == 1
    several = [
        "decontaminate",
        "rows.jsonl",
        "--against",
        "mbpp",
        "-m",
        "exact",
        "-m",
        "ngram-coverage",
        "--set",
        "any_n=13",
    ]
    assert answer(*several, "--without-prefect", home=home)["reasons"] == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["decontaminate", "check", "rows.jsonl", "-m", "llm-judge"], "llm-judge needs --judge"),
        (["decontaminate", "check", "rows.jsonl", "--set", "nn=3"], "none of ngram-coverage has such a field"),
        (["benchmarks", "add", "exam.jsonl"], "one of prompt, question"),
    ],
)
def test_mistakes_name_the_way_out(home: Path, words: list[str], told: str) -> None:
    done = provender(*words, home=home)
    assert (done.returncode in (2, 3), told in done.stderr, "Traceback" in done.stderr) == (True, True, False)


def test_the_self_test_plants_leaks_in_ones_own_data(home: Path) -> None:
    words = ["decontaminate", "self-test", "rows.jsonl", "--against", "gsm8k", "--items", "5", "--examples", "30"]
    result = answer(*words, "-m", "ngram-coverage", home=home)
    found = {r["kind"]: r for r in result["recall"]}
    assert result["passed"]
    assert found["verbatim"]["found"] == found["embedded"]["found"] == found["lookalikes"]["found"] == 5
    assert (found["rephrased"]["planted"], found["rephrased"]["found"]) == (100, 0)
    assert answer(*words, "-m", "idf-overlap", "--against", "mmlu", home=home, code=1)["passed"] is False


def test_marks_stand_around_the_matched_words_and_long_texts_are_cut_around_them() -> None:
    assert _pieces("abcdef", ((1, 3), (2, 4), (5, 6))) == [
        ("a", False), ("bc", True), ("d", True), ("e", False), ("f", True),
    ]  # fmt: skip
    text = "x" * 5000 + "leak" + "y" * 5000
    window, ((start, end),) = _window(text, ((5000, 5004),))
    assert (window[start:end], len(window) < 400) == ("leak", True)


def test_a_hostile_dataset_cannot_drive_the_terminal(tmp_path: Path) -> None:
    world = seeded(tmp_path / "store", hostile="\x1b[2J\u202e")
    hit = hits(world.store, world.v1)[0]
    record(world.store, hit, "reject", who="ada\x1b[2J", reason="\u202eno")
    told = side_by_side(hits(world.store, world.v1)[0])
    assert "\x1b" not in told
    assert "\u202e" not in told
