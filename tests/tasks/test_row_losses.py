"""Losses of training rows: what is joined, what is counted, what is drawn; and the step itself over a scripted model."""

from pathlib import Path

import polars as pl
import pytest

from flows.curate import curate
from schemas.lineage import DatasetRef
from storage.questions.rows import rows
from storage.questions.show import show
from storage.questions.trace import trace
from storage.store import Store
from tasks.events import Event, listening
from tasks.row_losses import _drawn, figures_of, losses_of
from tests.tasks.fakes_recipe import recipe

KINDS = {"loss": pl.Float64, "n_tokens": pl.Int64, "truncated": pl.Boolean, "failure": pl.String}


def scored(*rows: tuple[float | None, int, bool, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=KINDS, orient="row")


BEFORE = scored((2.0, 10, False, None), (3.0, 30, False, None), (None, 0, False, "too-long"), (1.0, 5, True, None))
AFTER = scored((1.5, 10, False, None), (3.5, 30, True, None), (2.0, 4, False, None), (None, 0, False, "empty"))
IDS = pl.Series("id", [bytes([n] * 16) for n in range(4)])


def test_a_change_needs_both_models() -> None:
    measured = losses_of(IDS, BEFORE, AFTER)
    assert measured["change"].to_list() == [-0.5, 0.5, None, None]
    assert measured["after"].to_list() == [1.5, 3.5, None, None]
    assert measured["tokens"].to_list() == [10.0, 30.0, 0.0, 0.0]
    assert measured["truncated"].to_list() == [0.0, 1.0, 0.0, 1.0]


def test_means_weigh_tokens_and_failures_are_counted_by_class() -> None:
    figures = figures_of(losses_of(IDS, BEFORE, AFTER), BEFORE, AFTER)
    assert figures["before"] == pytest.approx((2.0 * 10 + 3.0 * 30) / 40)
    assert figures["after"] == pytest.approx((1.5 * 10 + 3.5 * 30) / 40)
    assert (figures["scored"], figures["truncated"], figures["tokens"]) == (2, 1, 40)
    assert figures["unscored"] == {"too-long": 1, "empty": 1}


def test_nothing_scored_is_unknown_not_zero() -> None:
    nothing = scored((None, 0, False, "empty"))
    figures = figures_of(losses_of(IDS.head(1), nothing, nothing), nothing, nothing)
    assert (figures["before"], figures["after"], figures["scored"]) == (None, None, 0)
    assert figures["unscored"] == {"empty": 1}


def test_the_same_examples_are_drawn_whatever_order_they_stand_in() -> None:
    ids = pl.DataFrame({"id": [bytes([n] * 16) for n in range(50)]}).with_row_index("line")
    drawn = _drawn(ids, 7, 3)
    assert drawn.height == 7
    assert set(_drawn(ids.reverse(), 7, 3)["id"]) == set(drawn["id"])
    assert set(_drawn(ids, 7, 4)["id"]) != set(drawn["id"])
    assert _drawn(ids, 50, 3).height == 50


def test_a_recipe_that_trains_measures_its_rows_with_the_engine_of_the_evaluation(tmp_path: Path) -> None:
    by = {"backend": "trl", "model": "sprout", "adapter": "lora", "max_steps": 2, "batch_examples": 2}
    made = recipe(tmp_path, finetune={"by": by, "row_losses": 3})
    ref = curate.fn(made, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    (found,) = show(store, ref).losses
    manifest = store.describe(DatasetRef.parse(found.ref))
    assert dict(manifest.step.inputs)["pool"] == DatasetRef.parse(ref)
    assert dict(manifest.step.inputs)["model"].stage == "finetune"
    assert (found.asked, found.scored) == (3, 3)
    assert found.examples > 3
    assert all(one.after > 0 and one.tokens > 0 for one in found.worst)
    assert trace(store, found.worst[0].id, within=ref).losses[0].after == pytest.approx(found.worst[0].after)
    assert rows(store, found.ref, order="-losses.after").rows[0].id == found.worst[0].id


def test_a_model_that_cannot_be_opened_is_a_note_and_not_the_end_of_the_run(tmp_path: Path) -> None:
    made = recipe(tmp_path, finetune={"by": {"backend": "pretend"}})
    heard: list[Event] = []
    with listening(heard.append):
        ref = curate.fn(made, tmp_path / "store")
    assert show(Store.open(tmp_path / "store"), ref).losses == ()
    assert not [event for event in heard if event.stage == "losses"]
