"""`provender export` of what tells about a version: files where they were asked for, addresses only where they mean something."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from schemas.errors import UsageError
from storage.store import Store
from tests.storage.making import ingest, keep_where


@pytest.fixture
def store(tmp_path: Path) -> str:
    made = Store.open(tmp_path / "store")
    first = ingest(made, ["yes indeed", "no", "maybe so"])
    made.tag("set", keep_where(made, first.ref, [True, False, True]).ref)
    return str(tmp_path / "store")


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_openlineage_goes_to_the_named_file(store: str, tmp_path: Path) -> None:
    file = tmp_path / "out" / "events.jsonl"
    told = json.loads(_run("set", "--store", store, "--format", "openlineage", "--out", str(file), "--json"))
    assert told == {"files": [str(file)], "events": 4, "sent": 0}
    assert [json.loads(line)["eventType"] for line in file.read_text().splitlines()] == ["START", "COMPLETE"] * 2


def test_croissant_lies_beside_its_rows(store: str, tmp_path: Path) -> None:
    told = json.loads(_run("set", "--store", store, "--format", "croissant", "--to", str(tmp_path / "out"), "--json"))
    assert told["rows"] == 2
    assert sorted(Path(file).name for file in told["files"]) == ["set.croissant.json", "set.parquet"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--format", "trl", "--out", "x.jsonl"), "--out names one file, which only openlineage and croissant write"),
        (("--format", "croissant", "--to", "http://host"), "only openlineage is sent to"),
        (("--format", "turtle"), "unknown format 'turtle'"),
        (("--format", "openlineage", "--to", "ftp://host"), "no address for events"),
    ],
)
def test_a_place_that_a_format_cannot_use_is_refused(store: str, arguments: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        CliRunner().invoke(app, ["export", "set", "--store", store, *arguments], catch_exceptions=False)
