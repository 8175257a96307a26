"""Figures of two versions: a difference only where nothing differs but the data; else what differs, and no number."""

from typing import Any

import polars as pl
import pytest

from schemas.lineage import DatasetRef
from storage.questions.diff import delta_words, diff
from storage.store import Store
from tasks.leaderboard import leaderboard
from tests.seeding import Builder


class Models:
    """A store in which models are trained on datasets and evaluated; every setting can be changed."""

    def __init__(self, folder: Any) -> None:
        self.store = Store.open(folder)
        self.build = Builder(self.store, "")
        self.target = self.build.ingest("target", [(f"t{i}", f"a{i}") for i in range(4)])

    def dataset(self, name: str) -> DatasetRef:
        return self.build.publish(self.build.ingest(name, [(f"{name}{i}", "answer") for i in range(3)]), name)

    def tuned(self, dataset: DatasetRef, *, seed: int = 0, **trainer: Any) -> DatasetRef:
        draft = self.build.draft(
            "finetune", {"method": "trl"}, {"dataset": dataset},
            rng_seed=seed, backends={"train": {"model": "sprout", **trainer}},
        )  # fmt: skip
        draft.summary = {"base_model": "sprout", "trained_on": {"examples": 3}}
        return self.store.commit(draft).ref

    def evaluated(
        self, model: DatasetRef, metric: str, value: float, *, target: DatasetRef | None = None,
        judge: str | None = None, slice: str = "all", **method: Any,
    ) -> None:  # fmt: skip
        pool = target or self.target
        backends = {"judge": {"model": judge}} if judge else {}
        draft = self.build.draft("evaluate", method, {"model": model, "pool": pool}, backends=backends)
        draft.keep_members(self.store.describe(pool))
        nothing = pl.Series("score", [None] * 4, dtype=pl.Float64)
        draft.put("scores", pl.DataFrame([nothing, pl.Series("win_base", [value] * 4)]))
        draft.summary = {"measured": [{"metric": metric, "slice": slice, "examples": 4, "value": value}]}
        self.store.commit(draft)

    def benchmark(self, model: DatasetRef, value: float, *, version: float = 1.0, limit: int | None = None) -> None:
        """A figure of the harness for which less is more."""
        draft = self.build.draft(
            "evaluate", {"method": "harness", "harness": {"tasks": ["wiki"], "limit": limit}}, {"model": model}
        )
        task = {"task": "wiki", "version": version, "num_fewshot": 0, "examples": "ab", "higher_is_better": False}
        draft.summary = {
            "measured": [{"metric": "wiki/perplexity", "slice": "all", "examples": 2, "value": value}],
            "tasks": {"wiki/perplexity": task},
        }
        rows = {"metric": ["wiki/perplexity"] * 2, "doc_id": [1, 0], "value": [value, value + 1]}
        draft.put("sidecar/examples", pl.DataFrame(rows))
        self.store.commit(draft)

    def told(self) -> dict[str, str]:
        return {count.name: delta_words(count) for count in diff(self.store, "one@v1", "two@v1").metrics}


@pytest.fixture
def models(tmp_path: Any) -> Models:
    return Models(tmp_path / "store")


def test_alike_figures_have_a_difference(models: Models) -> None:
    one, two = models.dataset("one"), models.dataset("two")
    models.evaluated(models.tuned(one), "loss", 2.0)
    models.evaluated(models.tuned(two), "loss", 1.5)
    assert models.told() == {"loss": "2 → 1.5 (-0.5)"}


@pytest.mark.parametrize(
    ("trainer", "method", "what"),
    [
        ({"epochs": 3}, {}, "training settings"),
        ({"model": "large"}, {}, "training settings"),
        ({}, {"max_examples": 9}, "evaluation settings"),
    ],
    ids=["training", "model", "examples"],
)
def test_unlike_figures_have_a_reason_instead(models: Models, trainer: Any, method: Any, what: str) -> None:
    one, two = models.dataset("one"), models.dataset("two")
    models.evaluated(models.tuned(one), "loss", 2.0)
    models.evaluated(models.tuned(two, **trainer), "loss", 1.5, **method)
    assert models.told() == {"loss": f"2 → 1.5 (not compared: other {what})"}
    assert len(leaderboard(models.store).boards) == 2, "the leaderboard keeps them apart too"


def test_another_evaluation_set_is_no_comparison(models: Models) -> None:
    one, two = models.dataset("one"), models.dataset("two")
    other = models.build.ingest("other", [(f"o{i}", f"a{i}") for i in range(4)])
    models.evaluated(models.tuned(one), "loss", 2.0)
    models.evaluated(models.tuned(two), "loss", 1.5, target=other)
    assert models.told() == {"loss": "2 → 1.5 (not compared: other evaluation sets)"}


def test_another_judge_is_no_comparison_but_hinders_no_other_metric(models: Models) -> None:
    one, two = models.tuned(models.dataset("one")), models.tuned(models.dataset("two"))
    models.evaluated(one, "win-rate-base", 0.25, judge="strict")
    models.evaluated(two, "win-rate-base", 0.75, judge="kind")
    assert models.told() == {"win-rate-base": "0.25 → 0.75 (not compared: other judges)"}
    found = leaderboard(models.store)
    assert found.apart == "not compared with one another: 2 judges"
    models.evaluated(two, "win-rate-base", 0.5, judge="strict")
    assert models.told() == {"win-rate-base": "0.25 → 0.5 (+0.25)"}, "the newest alike ones are found"


def test_what_an_evaluation_also_measured_does_not_keep_the_loss_apart(models: Models) -> None:
    one, two = models.tuned(models.dataset("one")), models.tuned(models.dataset("two"))
    models.evaluated(one, "loss", 2.0, metrics=["loss"])
    models.evaluated(two, "loss", 1.0, metrics=["loss", "rouge-l"], judge="kind", max_new_tokens=9)
    assert models.told() == {"loss": "2 → 1 (-1)"}


def test_equal_training_seeds_are_preferred(models: Models) -> None:
    one, two = models.dataset("one"), models.dataset("two")
    models.evaluated(models.tuned(one, seed=0), "loss", 2.0)
    models.evaluated(models.tuned(one, seed=1), "loss", 9.0)
    models.evaluated(models.tuned(two, seed=0), "loss", 1.0)
    assert models.told() == {"loss": "2 → 1 (-1)"}


def test_a_slice_is_compared_with_the_same_slice(models: Models) -> None:
    one, two = models.tuned(models.dataset("one")), models.tuned(models.dataset("two"))
    models.evaluated(one, "loss", 2.0, slice="source=a")
    models.evaluated(two, "loss", 1.0, slice="source=b")
    assert models.told() == {"loss on source=a": "2 → unknown", "loss on source=b": "unknown → 1"}


def test_a_model_evaluated_twice_is_one_entry(models: Models) -> None:
    model = models.tuned(models.dataset("one"))
    models.evaluated(model, "loss", 2.0, metrics=["loss"])
    models.evaluated(model, "loss", 2.0, metrics=["loss", "rouge-l"])
    (board,) = leaderboard(models.store).boards
    assert board.entries[0].seeds == 1


def test_benchmarks_share_a_board_only_in_one_version_and_less_may_be_more(models: Models) -> None:
    one, two, three = (models.tuned(models.dataset(name)) for name in ("one", "two", "three"))
    models.benchmark(one, 12.0)
    models.benchmark(two, 10.0)
    models.benchmark(three, 1.0, version=2.0)
    boards = leaderboard(models.store).boards
    assert [len(board.entries) for board in boards] == [2, 1]
    best, worse = boards[0].entries
    assert (best.value, worse.value, boards[0].lower_is_better) == (10.0, 12.0, True)
    assert (worse.against_best, worse.gap) == ("worse than the best", 2.0), "paired by the example, not by the row"
    assert boards[0].target == "wiki, version 1.0, 0 shown"
    assert leaderboard(models.store).apart == "not compared with one another: 2 evaluation sets"
