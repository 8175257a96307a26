"""What can be told at once is told at once: unknown names and bad tags before any work, and no traceback beside one line."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.console import quiet_environment, told_once
from cli.main import app
from schemas.errors import BadName, GateClosed, MissingSource, ProvenderError, UsageError
from storage.store import Store
from tasks.adhoc import must_be_there


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three rows, in a file."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"instruction": f"Name {i}", "output": "x"}) + "\n" for i in range(3)), "utf-8")
    return path


def asked(*words: str, store: Path) -> ProvenderError:
    """What a verb raises under Prefect, were it to come so far."""
    done = CliRunner().invoke(app, [*words, "--store", str(store)])
    assert isinstance(done.exception, ProvenderError), done.output
    assert "temporary Prefect server" not in done.output
    return done.exception


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "ROWS", "--tag", "Bad"),
        ("dedup", "ROWS", "--tag", "../bad"),
        ("publish", "ROWS", "--name", "A"),
        ("decontaminate", "run", "ROWS", "-m", "exact", "-m", "any-ngram", "--tag", "B"),
    ],
)
def test_a_tag_that_cannot_be_one_is_refused_before_a_step_has_run(words: tuple[str, ...], rows: Path) -> None:
    store = rows.parent / "store"
    error = asked(*(str(rows) if word == "ROWS" else word for word in words), store=store)
    assert "is refused: use lower-case ASCII letters" in str(error)
    assert not store.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("dedup", "nothing"),
        ("generate", "nothing"),
        ("finetune", "nothing"),
        ("evaluate", "nothing", "ROWS"),
        ("evaluate", "ROWS", "nothing"),
        ("select", "ROWS", "--keep-examples", "1", "--target", "nothing"),
        ("decontaminate", "run", "nothing"),
    ],
    ids=" ".join,
)
def test_a_name_that_nothing_has_is_told_before_a_server_is_started(words: tuple[str, ...], rows: Path) -> None:
    store = Store.open(rows.parent / "store")
    error = asked(*(str(rows) if word == "ROWS" else word for word in words), store=store.disk.root)
    assert isinstance(error, MissingSource)
    assert "has no tag 'nothing'" in str(error)
    assert "and there is no file 'nothing'" in str(error)
    assert not (store.disk.root / "runs").exists()
    assert list(store.versions()) == []


def test_a_ref_of_too_few_digits_says_so_and_is_not_called_a_bad_name(tmp_path: Path) -> None:
    Store.open(tmp_path / "store")
    with pytest.raises(BadName, match="dedup@12 has too few digits: give at least 6"):
        must_be_there(["dedup@12"], tmp_path / "store")
    with pytest.raises(
        MissingSource, match=r"there is no file or folder '\.\./x', and a dataset cannot have that name"
    ):
        must_be_there(["../x"], tmp_path / "store")
    must_be_there([str(tmp_path), "hub:owner/name@0123456"], tmp_path / "no-store")


def test_init_overwrites_nothing_and_says_what_is_in_the_way(rows: Path) -> None:
    home = rows.parent / "mine"
    (home / "data").mkdir(parents=True)
    (home / "README.md").write_text("my own words", "utf-8")
    done = CliRunner().invoke(app, ["init", str(home)])
    assert isinstance(done.exception, UsageError)
    assert (
        str(done.exception) == f"{home / 'README.md'}: there already, and would be overwritten; choose another folder"
    )
    assert sorted(path.name for path in home.iterdir()) == ["README.md", "data"]
    assert (home / "README.md").read_text("utf-8") == "my own words"
    (home / "README.md").unlink()
    assert CliRunner().invoke(app, ["init", str(home)]).exit_code == 0
    again = CliRunner().invoke(app, ["init", str(home)])
    assert "recipe.yaml" in str(again.exception)


def test_init_where_a_file_lies_is_told_in_a_line(rows: Path) -> None:
    for place in (rows, rows / "under"):
        done = CliRunner().invoke(app, ["init", str(place)])
        assert isinstance(done.exception, UsageError)
        assert f"{place} cannot be made a folder (Not a directory)" in str(done.exception)


RECIPE = """
name: shut
sources: {{rows: {rows}}}
finetune: {{by: {{backend: pretend}}}}
"""


def test_a_run_that_must_end_at_its_gate_does_not_begin(rows: Path) -> None:
    store = rows.parent / "store"
    (rows.parent / "recipe.yaml").write_text(RECIPE.format(rows=rows), "utf-8")
    error = asked("run", str(rows.parent / "recipe.yaml"), "--without-prefect", store=store)
    assert "finetune: the gate is closed without `decontaminate:`; add it, or set override_gate" in str(error)
    assert not store.exists() or list(Store.open(store).versions()) == []


def test_a_reason_taken_out_of_the_recipe_shuts_the_gate_though_nothing_is_to_be_done(rows: Path) -> None:
    store = rows.parent / "store"
    (rows.parent / "recipe.yaml").write_text(RECIPE.format(rows=rows), "utf-8")
    words = ["run", str(rows.parent / "recipe.yaml"), "--without-prefect", "--no-report", "--store", str(store)]
    opened = [*words, "--set", "finetune.override_gate=toy data"]
    assert CliRunner().invoke(app, opened, catch_exceptions=False).exit_code == 0
    assert "nothing to do" in CliRunner().invoke(app, opened, catch_exceptions=False).output
    assert isinstance(CliRunner().invoke(app, words).exception, GateClosed)


def logged(error: BaseException | None, message: str) -> logging.LogRecord:
    """What Prefect hands to its logger."""
    info: Any = (type(error), error, None) if error else None
    return logging.LogRecord("prefect.flow_runs", logging.ERROR, "engine.py", 1, message, (), info)


def test_prefect_tells_no_traceback_of_what_the_command_line_says_in_a_line() -> None:
    assert not told_once(logged(GateClosed("must not be trained on"), "Encountered exception during execution"))
    assert not told_once(logged(None, "Finished in state Failed('Task run encountered an exception GateClosed')"))
    assert told_once(logged(ValueError("ours"), "Encountered exception during execution"))
    assert told_once(logged(None, "Task run failed, retry 1 of 3"))


def test_the_filter_stands_on_both_loggers_of_prefect_once() -> None:
    for _ in range(2):
        quiet_environment()
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        assert logging.getLogger(name).filters.count(told_once) == 1
