"""`provender budget`: pilots from a file, an allocation as text or JSON, and mistakes with their line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.budgeting import read_pilots
from cli.main import app
from methods.mixtures.budgets import LabelLaw
from schemas.errors import MissingSource, UnreadableSource, UsageError


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["budget", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_labels_are_bought_as_the_pilots_say(tmp_path: Path):
    law = LabelLaw(0.2, 2.0, 0.4, 0.64)
    rows = [(w, s, float(law(w, s))) for w in (0, 100, 400) for s in (10, 50, 200)]
    path = tmp_path / "pilots.csv"
    path.write_text("weak,strong,loss\n" + "".join(f"{w},{s},{x}\n" for w, s, x in rows), "utf-8")
    words = ("labels", "--money", "100", "--pilots", str(path), "--weak-cost", "0.1", "--strong-cost", "1")
    assert "quantity decides" in run(*words)
    told = json.loads(run(*words, "--json"))
    assert told["amounts"] == {"weak": 1000, "strong": 0}
    assert told["predicted_interval"][0] <= told["predicted"] + 1e-6


def test_preferences_have_a_rule_without_pilots():
    assert "rule of thumb" in run("preferences", "--money", "500")


def test_mistakes_name_their_place(tmp_path: Path):
    with pytest.raises(UsageError, match="needs --pilots"):
        run("labels", "--money", "5")
    path = tmp_path / "bad.csv"
    path.write_text("share,score\n0.1,2\n0.2,two\n", "utf-8")
    with pytest.raises(UnreadableSource, match=r"line 3: .*'two'.* not all numbers"):
        read_pilots(path, ("share", "score"))
    with pytest.raises(UnreadableSource, match="no column 'weak'"):
        read_pilots(path, ("weak", "score"))
    with pytest.raises(MissingSource, match="no file"):
        read_pilots(tmp_path / "none.csv", ("share",))
