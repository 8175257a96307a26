"""Verbs that only look: the store they find by themselves, the recipe they give back, terminals without Unicode."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from cli.store_read import looked_at
from schemas.errors import BadName, MissingDataset
from storage.questions.recorded_recipe import recorded_recipe
from storage.store import Store
from tests.seeded import Seeded, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    """The seeded store where `make demo` would have left it."""
    return seeded(tmp_path_factory.mktemp("clone") / "demo" / "store")


def test_after_the_demo_its_store_is_found_without_a_name(
    world: Seeded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = world.store.root.parent.parent
    monkeypatch.chdir(clone)
    monkeypatch.delenv("PROVENDER_STORE", raising=False)
    assert looked_at(Path("store")) == Path("demo/store")
    assert "this reads demo/store (--store names another one)" in capsys.readouterr().err
    assert looked_at(Path("elsewhere")) == Path("elsewhere")
    done = CliRunner().invoke(app, ["ls"])
    assert "support-bot@v2" in done.stdout
    monkeypatch.setenv("PROVENDER_STORE", "store")
    assert looked_at(Path("store")) == Path("store")  # somebody named it
    monkeypatch.delenv("PROVENDER_STORE")
    (clone / "store").mkdir()
    assert looked_at(Path("store")) == Path("store")
    (clone / "store").rmdir()


def test_the_recipe_of_a_version_comes_back_in_its_own_order(world: Seeded) -> None:
    recipe = {"name": "z-first", "sources": {"web": "w.jsonl", "code": "c.jsonl", "answers": None}, "dedup": []}
    tag = Store.open(world.store.root).tag("ordered", world.v1, recipe=recipe)
    assert list(recorded_recipe(world.store, "ordered@v1")["sources"]) == ["web", "code", "answers"]
    done = CliRunner().invoke(app, ["show", "ordered", "--recipe", "--store", str(world.store.root)])
    told = yaml.safe_load(done.stdout)
    assert list(told) == ["name", "sources", "dedup"]  # what the pools of gather are in, and so the refs
    assert list(told["sources"]) == ["web", "code"]
    assert tag.number == 1
    with pytest.raises(MissingDataset, match="no recipe was recorded with"):
        recorded_recipe(world.store, world.steps["clear"])


def test_a_terminal_without_unicode_gets_an_answer_not_a_traceback(world: Seeded) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "show", "support-bot", "--store", str(world.store.root)],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("support-bot@v2")
    assert "Traceback" not in done.stderr


def test_a_ref_is_found_by_its_beginning_and_a_beginning_too_short_says_so(world: Seeded) -> None:
    whole = world.strict["clear"]
    assert world.store.resolve(str(whole)[:-8]) == whole
    with pytest.raises(BadName, match="too few digits: give at least 6"):
        world.store.resolve(f"{whole.stage}@{whole.fingerprint[:4]}")
