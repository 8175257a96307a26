"""Every command's help can be read, and what adding a benchmark says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*path, name))


@pytest.mark.parametrize("path", list(commands(get_command(app))), ids=" ".join)
def test_the_help_of_every_command_is_shown(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.exception
    assert "Usage:" in shown.output


def test_what_stands_in_brackets_is_shown_as_it_is() -> None:
    shown = CliRunner().invoke(app, ["benchmarks", "add", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert "hub:owner/name@commit[:config[/split]]" in shown.output


def test_adding_a_benchmark_says_which_items_nothing_can_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path / "home"))
    lines = [{"prompt": "Which of the seven rivers is the longest?"}, {"prompt": "Is it?"}, {"prompt": ""}]
    (tmp_path / "exam.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    told = CliRunner().invoke(app, ["benchmarks", "add", str(tmp_path / "exam.jsonl")])
    assert "exam: version 1, 3 items" in told.output
    assert told.output.rstrip().endswith("; 2 of fewer than 5 words, which no rule on words looks for")
    listed = CliRunner().invoke(app, ["benchmarks", "add", str(tmp_path / "exam.jsonl"), "--json"])
    assert json.loads(listed.output)["short_items"] == 2
