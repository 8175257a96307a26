"""`provender select`: a budget in examples or tokens, by a ranking or by the set itself."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from methods.select._budget import tokens_of
from schemas.errors import BackendError, ProvenderError, UsageError
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


def refused(pool: Path, *words: str) -> str:
    """What the user is told, and that nothing was begun."""
    store = pool.parent / "store"
    done = CliRunner().invoke(app, [*words, "--store", str(store), "--without-prefect"])
    assert isinstance(done.exception, UsageError)
    assert not store.exists()
    return str(done.exception)


def test_an_engine_that_a_method_needs_is_asked_for_by_its_option(pool: Path) -> None:
    for words, told in (
        (["rank", "-m", "rds-plus"], "rds-plus needs --embed, as in `--embed static`"),
        (["rank", "-m", "less"], "less needs --tune, as in `--tune sprout`"),
        (["rank", "-m", "perplexity"], "perplexity needs --llm, as in `--llm sprout`"),
        (["rank", "-m", "deita"], "deita needs --judge, as in `--judge sprout`"),
        (["select", "--keep-examples", "3", "--cut", "k-center"], "k-center needs --embed"),
        (["select", "--keep-examples", "3", "--by", "ifd"], "ifd needs --llm"),
        (["dedup", "-m", "semantic"], "semantic needs --embed"),
        (["filter", "-m", "clear-correct", "--llm", "sprout"], "clear-correct needs --tune"),
    ):
        assert told in refused(pool, words[0], str(pool), *words[1:])


def test_a_ranking_beside_a_cut_that_reads_none_is_a_mistake(pool: Path) -> None:
    words = ["select", str(pool), "--keep-examples", "3", "--cut", "k-center", "--embed", "static"]
    assert "k-center looks at the set and reads no ranking; leave out --by" in refused(pool, *words, "--by", "length")
    assert "leave out --set" in refused(pool, *words, "--set", "unit=words")


def test_fields_of_the_cut_are_its_own(pool: Path) -> None:
    misplaced = refused(pool, "select", str(pool), "--keep-examples", "3", "--cut-set", "order=shortest")
    assert "order" in misplaced
    assert chosen(pool, "--cut-set", "keep_fraction=0.5", "--by", "length", "--set", "order=shortest")[0] == 10
    assert chosen(pool, "--cut", "quota", "--cut-set", "quotas.rows=4")[0] == 4


def test_a_ranking_by_gradients_runs_ad_hoc(pool: Path) -> None:
    target = pool.with_name("target.jsonl")
    target.write_text(json.dumps({"instruction": "Ask 3", "output": "Tell 3"}) + "\n", "utf-8")
    tuner = "{backend: simulated, skills: [Ask 1, Ask 3]}"
    aimed = ("--by", "learnability", "--tune", tuner, "--target", str(target), "--keep-examples", "2")
    assert chosen(pool, *aimed)[0] == 2


def test_a_simulated_proxy_that_cannot_write_says_so(pool: Path) -> None:
    engines = ["--embed", "static", "--tune", "{backend: simulated, skills: [Ask 1, Ask 3]}"]
    with pytest.raises(BackendError, match="the simulated tuner's models only score"):
        chosen(pool, "--cut", "iterative-kmeans", "--keep-examples", "4", *engines)
