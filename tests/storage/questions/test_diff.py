"""`diff` between the lenient and the strict curation of tests/seeded.py."""

from pathlib import Path

import pytest

from storage.questions.diff import diff
from storage.questions.lineage import lineage
from tests.seeded import Seeded, ids_of, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_rows_that_went_are_counted_under_the_rule_that_dropped_them(world: Seeded) -> None:
    found = diff(world.store, "support-bot@v1", "support-bot@v2")
    before, after = set(ids_of(world.store, world.v1)), set(ids_of(world.store, world.v2))
    assert (found.added, found.removed, found.common) == (
        len(after - before),
        len(before - after),
        len(before & after),
    )
    assert sum(why.rows for why in found.why_removed) == found.removed
    assert sum(why.rows for why in found.why_added) == found.added
    first = found.why_removed[0]
    assert (first.stage, first.method, first.rule, first.threshold) == ("filter", "clear", "low-confidence", 0.42)
    assert all(row.id in before - after for why in found.why_removed for row in why.some)
    assert all(row.score <= 0.42 for row in first.some)
    assert [row.score for row in first.some] == sorted((row.score for row in first.some), reverse=True)


def test_the_recipes_difference_is_told_in_words(world: Seeded) -> None:
    found = diff(world.store, world.v1, world.v2)
    assert [change.says for change in found.changes] == ["filter clear: threshold 0.3 → 0.42"]
    assert "changed: filter clear: threshold 0.3 → 0.42" in found.sentence


def test_a_version_does_not_differ_from_itself(world: Seeded) -> None:
    found = diff(world.store, world.v2, "support-bot@v2")
    assert (found.added, found.removed, found.edited) == (0, 0, 0)
    assert found.sentence == "support-bot@v2 and support-bot@v2 hold the same examples"
    assert found.changes == found.shifts == ()


def test_an_edited_row_is_a_pair_not_a_loss_and_a_gain(world: Seeded) -> None:
    found = diff(world.store, world.steps["length"], world.steps["correct"])
    assert (found.added, found.removed, found.edited, found.common) == (0, 0, 2, 41)


def test_rows_of_another_source_are_named_as_such(world: Seeded) -> None:
    found = diff(world.store, world.steps["dolly"], world.steps["synthetic"])
    (why,) = found.why_removed
    assert why.says == "not among the examples of its sources and generators"
    assert why.rows == 40
    (came,) = found.why_added
    assert came.rows == 10


def test_figures_stand_side_by_side(world: Seeded) -> None:
    found = diff(world.store, world.v1, world.v2)
    assert {count.name: (count.before, count.after) for count in found.sources} == {
        "dolly": (20, 20),
        "synthetic": (7, 7),
    }
    assert {count.name: count.before for count in found.contamination} == {"gsm8k": 3, "mmlu": 0}
    assert {count.name: count.after for count in found.metrics}["heldout_loss"] == 1.5
    (clear,) = [shift for shift in found.shifts if shift.method == "clear"]
    assert clear.before_mean == clear.after_mean


def test_the_graph_reaches_the_sources_and_the_model(world: Seeded) -> None:
    graph = lineage(world.store, "support-bot@v1")
    hops = {node.ref: node.hops for node in graph.nodes}
    assert hops[str(world.v1)] == 0
    assert hops[str(world.steps["dolly"])] < 0 < hops[str(world.steps["finetune"])]
    consumed = {(edge.origin, edge.made): edge.consumed for edge in graph.edges}
    assert consumed[str(world.steps["seeds"]), str(world.steps["synthetic"])] is False
    assert consumed[str(world.steps["clear"]), str(world.steps["decontaminate"])] is True
    order = [node.ref for node in graph.nodes]
    assert all(order.index(edge.origin) < order.index(edge.made) for edge in graph.edges)


def test_a_graph_stops_where_it_is_told(world: Seeded) -> None:
    near = lineage(world.store, world.v1, up=1, down=0)
    assert {node.ref for node in near.nodes} == {str(world.v1), str(world.steps["mix"])}
    few = lineage(world.store, world.v1, most=3)
    assert len(few.nodes) == 3
    assert few.hidden > 0


def test_a_store_elsewhere_gives_the_same_answer(tmp_path: Path) -> None:
    one, other = (seeded(tmp_path / name) for name in ("a", "b"))
    answers = [diff(world.store, world.v1, world.v2).model_dump_json() for world in (one, other)]
    assert answers[0] == answers[1]
