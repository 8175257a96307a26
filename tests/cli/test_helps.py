"""Every command's help can be read: nothing in it is taken for markup that is none."""

from collections.abc import Iterator
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
