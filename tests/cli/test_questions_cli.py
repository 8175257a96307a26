"""what-if, blast, lineage and site as typed in a terminal: text, JSON, exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from schemas.errors import MissingDataset, StoreError, UsageError
from tests.seeded import Seeded, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def said(world: Seeded, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--store", str(world.store.root)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_if_lists_what_can_be_moved_and_moves_it(world: Seeded) -> None:
    assert "low-confidence" in said(world, "what-if", "support-bot")
    told = said(world, "what-if", "support-bot", "--move", "clear=0.3")
    assert told.startswith("low-confidence 0.42 → 0.3: 27 rows would be between 27 and 35.")
    assert "newly kept, nearest first" in told
    held = said(world, "what-if", "support-bot", "--bound", "ifd=0.3:", "--bound", "clear=:0.9")
    assert held.startswith("ifd from 0.3, clear up to 0.9: 27 rows would be")
    with pytest.raises(UsageError, match="is not SCORE=LOW:HIGH"):
        said(world, "what-if", "support-bot", "--bound", "ifd=0.3")
    found = json.loads(said(world, "what-if", "support-bot", "--move", "clear=0.3", "--json"))
    assert found["moves"][0]["newly_kept"] == 8
    with pytest.raises(UsageError, match="is not SCORE=VALUE"):
        said(world, "what-if", "support-bot", "--move", "clear")


def test_trace_finds_a_text_and_says_what_to_trace_next(world: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Question 0 about topic 0?\nAnswer 0 explains the topic in nine plain words"
    told = said(world, "trace", "--text", text)
    first = told.splitlines()[2]
    assert first.startswith(f"{world.dolly[0][:12]}  same words: ")
    assert "Dropped at filter by clear" in told
    assert told.rstrip().endswith(f"next: provender trace {world.dolly[0][:12]}")
    assert said(world, "trace", world.dolly[0][:12]).startswith("Dropped at filter by clear")
    done = CliRunner().invoke(app, ["trace", "--text", "-", "--json", "--store", str(world.store.root)], input=text)
    found = json.loads(done.stdout)
    assert (found["hits"][0]["id"], found["hits"][0]["how"]) == (world.dolly[0], "words")
    assert found["seen"] == found["rows"]
    inside = said(world, "trace", "--text", text, "--in", "support-bot@v1")
    assert "of the history of support-bot@v1" in inside
    assert inside.rstrip().endswith(f"next: provender trace {world.dolly[0][:12]} --in support-bot@v1")
    assert said(world, "trace", "--text", "zanzibarquux").startswith("no example found among ")


def test_trace_says_what_is_missing(world: Seeded, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an example's id, or --text"):
        said(world, "trace")
    with pytest.raises(UsageError, match="an example's id, or --text"):
        said(world, "trace", world.dolly[0], "--text", "words")
    with pytest.raises(UsageError, match="there is no word in the text"):
        said(world, "trace", "--text", " ?! ")
    with pytest.raises(MissingDataset, match="has no tag 'nothing'"):
        said(world, "trace", "--text", "words", "--in", "nothing")
    nowhere = CliRunner().invoke(app, ["trace", "--text", "words", "--store", str(tmp_path / "none")])
    assert isinstance(nowhere.exception, StoreError)
    assert str(tmp_path / "none") in str(nowhere.exception)


def test_a_hostile_text_cannot_drive_the_terminal(world: Seeded) -> None:
    assert "\x1b" not in said(world, "trace", "--text", "topic \x1b[31m red \x1b]0;title\x07 topic 0")


def test_blast_lists_causes_and_writes_a_recall_list(world: Seeded, tmp_path: Path) -> None:
    assert "seeds" in said(world, "blast")
    told = said(world, "blast", "source", "seeds", "--recall", str(tmp_path / "recall.csv"))
    assert told.startswith("6 examples of source seeds and 10 made from them reach")
    assert len((tmp_path / "recall.csv").read_text().splitlines()) == 1 + 16
    said(world, "blast", "source", "seeds", "--recall", str(tmp_path / "recall.jsonl"))
    lines = (tmp_path / "recall.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["source"] == "seeds"
    assert json.loads(said(world, "blast", "source", "seeds", "--json"))["direct"] == 6
    with pytest.raises(UsageError, match=r"neither \.csv nor \.jsonl"):
        said(world, "blast", "source", "seeds", "--recall", str(tmp_path / "recall.txt"))
    with pytest.raises(UsageError, match="a cause is one of"):
        said(world, "blast", "weather", "rain")


def test_the_rows_behind_a_difference_can_be_listed(world: Seeded) -> None:
    told = said(world, "diff", "support-bot@v1", "support-bot@v2", "--rows", "common", "--most", "3")
    assert told.splitlines()[0].split() == ["example", "source", "begins"]
    assert told.rstrip().endswith("more: --start 3")
    found = json.loads(said(world, "diff", "support-bot@v1", "support-bot@v2", "--rows", "removed", "--json"))
    assert found["total"] == len(found["rows"])
    with pytest.raises(UsageError, match="rows of a comparison are"):
        said(world, "diff", "support-bot@v1", "support-bot@v2", "--rows", "gone")


def test_lineage_can_be_narrowed_down(world: Seeded) -> None:
    near = json.loads(said(world, "lineage", "support-bot", "--up", "1", "--down", "0", "--json"))
    assert [node["stage"] for node in near["nodes"]] == ["mix", "publish"]
    way = json.loads(said(world, "lineage", "support-bot", "--from", str(world.strict["select"]), "--json"))
    assert [node["stage"] for node in way["nodes"]] == ["select", "mix", "publish"]
    assert "publish@" in said(world, "lineage", "support-bot", "--dot", "--up", "2")


def test_site_says_where_it_is(world: Seeded, tmp_path: Path) -> None:
    out = tmp_path / "site"
    made = json.loads(said(world, "site", "support-bot", "--out", str(out), "--examples", "2", "--json"))
    assert made["index"] == str(out / "index.html")
    assert made["left_out"] == 25
    assert (out / "index.html").is_file()
