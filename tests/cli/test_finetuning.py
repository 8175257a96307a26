"""`provender finetune` ad hoc: what it says, what the card names, and that an older version keeps its own name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from flows.curate import curate
from schemas.errors import GateClosed
from schemas.recipe import load_recipe

RECIPE = """
name: small
sources: {rows: rows.jsonl}
decontaminate: {benchmarks: [humaneval], by: {method: ngram-coverage}}
rank: {method: length}
select: {method: top, keep_examples: 8}
"""


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with a store in which ``small@v1`` and ``small@v2`` are other rows."""
    rows = [{"instruction": f"Name river {i}", "output": f"River {i} " * (1 + i % 5)} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE, "utf-8")
    for keep in (8, 9):
        curate.fn(load_recipe(tmp_path / "recipe.yaml", [f"select.keep_examples={keep}"]), tmp_path / "store")
    return tmp_path


def finetune(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(
        app, ["finetune", *words, "--store", str(folder / "store"), "--without-prefect"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_the_card_of_an_ad_hoc_training_names_version_digest_and_recipe(published: Path) -> None:
    program = published / "train.sh"
    program.write_text('#!/bin/sh\ncp "$1" "$2/weights.bin"\necho \'{"loss": 1.5}\' > "$3"\n', "utf-8")
    program.chmod(0o755)
    command = f"command=[{program}, '{{config}}', '{{output}}', '{{metrics}}']"
    said = finetune(published, "small@v1", "--backend", "command", "--set", command, "--row-losses", "0")
    assert "loss 1.5" in said
    assert "measure it with `provender evaluate finetune@" in said
    (card,) = (published / "store" / "models").glob("finetune-*/README.md")
    told = card.read_text("utf-8")
    for line in ("| tag | `small@v1` |", "| recipe | `small` |", "| gate | `passed` |", "| examples | `8` |"):
        assert line in told
    assert str(card.parent) in said.replace("\n", "")


def test_what_was_never_checked_is_not_trained_on_ad_hoc(published: Path) -> None:
    with pytest.raises(GateClosed, match="not a published version"):
        finetune(published, str(published / "rows.jsonl"), "--backend", "pretend")
