"""Prefect reads its settings when it is imported: they stand before every verb, or it calls home and misses the server of `up`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app

ROOT = Path(__file__).resolve().parent.parent.parent


def leaves(command: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb and sub-verb with the words that lead to it."""
    for name, one in getattr(command, "commands", {}).items():
        yield from leaves(one, (*way, name))
    if way and not getattr(command, "commands", {}):
        yield way, command


VERBS = [" ".join(way) for way, _ in leaves(get_command(app))]


def test_there_are_as_many_verbs_as_the_command_line_has() -> None:
    assert len(VERBS) >= 40
    assert {"run", "decontaminate check", "engine start", "cache stats"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_settings_stand_before_the_first_line_of_a_verb(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = get_command(app)
    found: list[str | None] = []
    (leaf,) = (one for way, one in leaves(command) if " ".join(way) == verb)
    leaf.params, leaf.callback = [], lambda: found.append(os.environ.get("PREFECT_SERVER_ANALYTICS_ENABLED"))
    monkeypatch.delenv("PREFECT_SERVER_ANALYTICS_ENABLED")
    command.main(args=verb.split(), standalone_mode=False)
    assert found == ["false"]


def test_the_command_line_imports_no_prefect_before_a_verb_begins() -> None:
    code = "import sys, cli.main; print(sorted({'prefect', 'transformers', 'duckdb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_to_look_needs_no_home_that_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path / "file" / "home"))
    done = CliRunner().invoke(app, ["methods", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "heuristics" in done.stdout
