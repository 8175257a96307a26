"""Losses of single training rows, worked by hand: 24 distinct examples in 27 rows, 20 of them drawn."""

from pathlib import Path

import pytest

from storage.questions.rows import rows
from storage.questions.show import show
from storage.questions.trace import trace
from tests.seeded import Seeded, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_a_version_tells_how_many_were_drawn_and_which_it_learned_least(world: Seeded) -> None:
    (found,) = show(world.store, "support-bot@v1").losses
    assert found.says == "20 of 24 examples, drawn by their ids; the loss of 16 fell, of 4 rose"
    assert (found.examples, found.asked, found.scored, found.fell, found.rose) == (24, 20, 20, 16, 4)
    assert [round(one.after, 4) for one in found.worst[:4]] == [2.75, 2.4, 2.3, 2.25]  # numbers 15, 19, 18 and 10
    assert (found.dataset, found.model, found.base) == ("support-bot@v1", str(world.steps["finetune"]), "sprout")
    assert sum(found.counts_before) == sum(found.counts_after) == 20
    assert found.edges[0] == 0
    assert found.edges[-1] == pytest.approx(2.9)  # the highest of either side: 1 + 19 / 10 before


def test_a_repeat_counts_once_but_shows_its_loss_at_each_place(world: Seeded) -> None:
    """The mixture repeats three of the rows: 23 rows carry a loss, 20 examples are counted."""
    listed = rows(
        world.store, world.steps["losses"], order="-losses.after", where={"losses.after": (0.0, None)}, limit=50
    )
    assert listed.total == 23
    assert len({one.id for one in listed.rows}) == 20
    assert {"losses.after", "losses.before", "losses.change", "losses.tokens"} <= set(listed.shown)
    (found,) = show(world.store, "support-bot@v1").losses
    assert len({one.id for one in found.worst}) == len(found.worst)


def test_an_example_has_its_loss_before_and_after_and_its_place(world: Seeded) -> None:
    (listed,) = show(world.store, "support-bot@v1").losses
    worst = listed.worst[0]
    (found,) = trace(world.store, worst.id, within="support-bot@v1").losses
    assert (found.asked, found.place, found.scored, found.tokens) == (True, 1, 20, 7)
    assert found.before == pytest.approx(2.5)
    assert found.after == pytest.approx(2.75)
    assert found.change == pytest.approx(0.25)


def test_an_example_that_was_not_drawn_says_so_and_a_dropped_one_has_none(world: Seeded) -> None:
    pool = world.store.pool(world.v1)["id"].to_list()
    (found,) = trace(world.store, pool[0].hex(), within="support-bot@v1").losses
    assert (found.asked, found.after, found.place) == (False, None, None)
    assert trace(world.store, world.dolly[0], within="support-bot@v2").losses == ()


def test_losses_are_no_ranking_and_no_evaluation(world: Seeded) -> None:
    page = show(world.store, "support-bot@v1")
    assert {run.kind for run in page.training} == {"finetune", "evaluate"}
    assert all(str(world.steps["losses"]) != run.step.ref for run in page.training)
    columns = [column.key for column in rows(world.store, world.steps["losses"]).columns if column.stage == "losses"]
    assert columns == ["losses.after", "losses.before", "losses.change", "losses.tokens"]


def test_a_loss_that_cannot_be_read_leaves_the_page_standing(tmp_path: Path) -> None:
    broken = seeded(tmp_path)
    for path in broken.store.paths(broken.steps["losses"], "scores"):
        path.unlink()
    page = show(broken.store, "support-bot@v1")
    assert page.losses == ()
    assert page.damage
    assert page.rows == 27
