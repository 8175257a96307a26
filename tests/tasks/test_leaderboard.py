"""The leaderboard: same examples, model and training side by side; ties are ties; unlike runs stay apart."""

import polars as pl
import pytest

from cli.ranking import changes_text, leaderboard_text
from schemas.lineage import DatasetRef
from storage.store import Store
from tasks.leaderboard import Leaderboard, changes, leaderboard
from tests.seeding import Builder


class Runs:
    """A store with datasets, models tuned on them and evaluations whose losses per example are given."""

    def __init__(self, folder) -> None:
        self.store = Store.open(folder)
        self.build = Builder(self.store, "")
        self.target = self.build.ingest("target", [(f"t{i}", f"a{i}") for i in range(40)])

    def dataset(self, name: str) -> DatasetRef:
        pool = self.build.ingest(name, [(f"{name}{i}", "answer") for i in range(5)])
        return self.build.publish(pool, name)

    def evaluated(
        self,
        dataset: DatasetRef,
        losses: list[float],
        *,
        seed: int = 0,
        epochs: float = 1.0,
        tokens: list[int] | None = None,
    ) -> None:
        tuned = self.build.draft(
            "finetune", {"method": "trl"}, {"dataset": dataset},
            rng_seed=seed, backends={"train": {"model": "sprout", "epochs": epochs}},
        )  # fmt: skip
        tuned.summary = {"base_model": "sprout", "trained_on": {"examples": 5}}
        model = self.store.commit(tuned).ref
        scored = self.build.draft(
            "evaluate", {"max_examples": 500}, {"model": model, "pool": self.target}, rng_seed=seed
        )
        scored.keep_members(self.store.describe(self.target))
        frame = pl.DataFrame({"score": [-x for x in losses], "loss": losses})
        counts = tokens or [1] * len(losses)
        scored.put("scores", frame.with_columns(n_tokens=pl.Series(counts).cast(pl.Float64)))
        mean = sum(x * n for x, n in zip(losses, counts, strict=True)) / sum(counts)
        scored.summary = {
            "measured": [
                {"metric": "loss", "slice": "all", "examples": 40, "value": mean, "low": mean - 0.1, "high": mean + 0.1,
                 "before": 3.0, "change": mean - 3.0, "change_low": mean - 3.1, "change_high": mean - 2.9}
            ]
        }  # fmt: skip
        self.store.commit(scored)

    def boards(self) -> Leaderboard:
        return leaderboard(self.store)


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path / "store")


def test_a_lead_outside_the_paired_interval_is_a_lead_and_one_inside_is_a_tie(runs: Runs) -> None:
    good, close, bad = (runs.dataset(name) for name in ("good", "close", "bad"))
    base = [1.0 + i / 40 for i in range(40)]
    runs.evaluated(good, base)
    runs.evaluated(close, [x + (0.3 if i % 2 else -0.29) for i, x in enumerate(base)])
    runs.evaluated(bad, [x + 0.5 for x in base])
    (board,) = runs.boards().boards
    assert [e.tags[-1] for e in board.entries] == ["good@v1", "close@v1", "bad@v1"], "lower loss first"
    assert [e.against_best for e in board.entries] == ["best", "tied with the best", "worse than the best"]
    assert board.entries[2].gap == pytest.approx(0.5)
    assert board.says == "good@v1 has the best loss, but its lead over close@v1 is within the interval."
    assert leaderboard_text(runs.boards()).startswith("loss (lower is better) on 40 examples of target; model sprout")


def test_two_versions_differ_in_a_metric_only_outside_the_paired_interval(runs: Runs) -> None:
    good, close, bad, other = (runs.dataset(name) for name in ("good", "close", "bad", "other"))
    base = [1.0 + i / 40 for i in range(40)]
    runs.evaluated(good, base)
    runs.evaluated(close, [x + (0.3 if i % 2 else -0.29) for i, x in enumerate(base)])
    runs.evaluated(bad, [x + 0.5 for x in base])
    runs.evaluated(other, base, epochs=2.0)
    (worse,) = changes(runs.store, good, bad)
    assert (worse.metric, worse.target, worse.verdict) == ("loss", "target", "worse")
    assert (worse.change, worse.low, worse.high) == pytest.approx((0.5, 0.5, 0.5))
    assert changes(runs.store, bad, good)[0].verdict == "better", "lower loss"
    assert changes(runs.store, good, close)[0].verdict == "no difference shown"
    assert changes(runs.store, good, other) == (), "trained by other settings"
    assert changes(runs.store, good, good) == ()
    assert "loss on target: +0.5000 [+0.5000, +0.5000], worse" in changes_text((worse,))
    assert changes_text(()) == ""


def test_a_loss_is_weighed_by_its_tokens_in_the_difference_as_in_the_figure(runs: Runs) -> None:
    long, short = runs.dataset("long"), runs.dataset("short")
    tokens = [1000] * 20 + [1] * 20  # the first half of the target is long
    runs.evaluated(long, [1.0] * 20 + [3.0] * 20, tokens=tokens)
    runs.evaluated(short, [1.5] * 20 + [1.0] * 20, tokens=tokens)
    (board,) = runs.boards().boards
    assert [e.tags[-1] for e in board.entries] == ["long@v1", "short@v1"]
    first, second = board.entries
    assert second.gap == pytest.approx(second.value - first.value), "the figures' own difference"
    assert second.against_best == "worse than the best", "though it is better on most examples"
    (change,) = changes(runs.store, long, short)
    assert change.change == pytest.approx(second.gap)


def test_training_seeds_are_averaged_and_their_spread_is_told(runs: Runs) -> None:
    one = runs.dataset("one")
    runs.evaluated(one, [1.0] * 40, seed=0)
    runs.evaluated(one, [2.0] * 40, seed=1)
    (board,) = runs.boards().boards
    (entry,) = board.entries
    assert (entry.value, entry.seeds, entry.seed_low, entry.seed_high) == (1.5, 2, 1.0, 2.0)
    assert (entry.low, entry.high) == (pytest.approx(0.9), pytest.approx(2.1)), "the widest interval"
    assert "nothing to compare it with" in board.says


def test_other_training_settings_are_another_board_and_the_reason_is_given(runs: Runs) -> None:
    one, two = runs.dataset("one"), runs.dataset("two")
    runs.evaluated(one, [1.0] * 40)
    runs.evaluated(two, [0.5] * 40, epochs=3.0)
    found = runs.boards()
    assert len(found.boards) == 2, "three epochs against one would be a wrong comparison"
    assert found.apart == "not compared with one another: 2 training settings"
    text = leaderboard_text(found)
    assert "one@v1" in text
    assert found.apart in text


def test_an_empty_store_says_what_to_do(runs: Runs) -> None:
    assert "no evaluation of a trained model yet" in leaderboard_text(runs.boards())
    assert leaderboard(runs.store, "rouge-l").boards == ()
