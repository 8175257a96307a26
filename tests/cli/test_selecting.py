"""`provender select`: a budget in examples or tokens, by a ranking or by the set itself."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from methods.select._budget import tokens_of
from schemas.errors import ProvenderError, UsageError
from storage.store import Store


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rows = [{"instruction": f"Ask {i}", "output": f"Tell {i} " * (1 + i % 5)} for i in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def chosen(pool: Path, *words: str) -> tuple[int, float]:
    """Examples and tokens of what was kept."""
    store = pool.parent / "store"
    done = CliRunner().invoke(
        app, ["select", str(pool), *words, "--store", str(store), "--without-prefect", "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    rows = Store.open(store).pool(Store.open(store).resolve(json.loads(done.stdout)["ref"]))
    return rows.height, float(tokens_of(rows).sum())


def test_a_budget_is_in_examples_or_in_tokens(pool: Path) -> None:
    assert chosen(pool, "--keep-examples", "7", "--by", "length")[0] == 7
    count, tokens = chosen(pool, "--budget-tokens", "150", "--by", "length")
    assert 0 < count < 20
    assert 100 < tokens <= 150


def test_a_selection_by_the_set_needs_no_ranking(pool: Path) -> None:
    assert chosen(pool, "--keep-examples", "4", "--cut", "k-center", "--embed", "{backend: hashing}")[0] == 4


def test_two_budgets_or_none_are_a_mistake(pool: Path) -> None:
    for words in ([], ["--keep-examples", "3", "--budget-tokens", "9"]):
        with pytest.raises((UsageError, ProvenderError), match="give one of keep_examples"):
            chosen(pool, *words)
