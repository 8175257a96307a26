"""Rows by any score, drops of a whole lineage, search: worked by hand on the seeded store."""

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UsageError
from storage.questions import search as search_module
from storage.questions.dense import by_home, column_named, columns_of, facet, places, scores_at
from storage.questions.remembered import Memory
from storage.questions.rows import rows
from storage.questions.search import search
from storage.reading import ReadingStore
from storage.seek import Reader
from tests.seeded import Seeded, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_every_score_on_the_way_is_a_column_with_its_threshold(world: Seeded) -> None:
    columns = columns_of(Reader(world.store), world.v2)
    assert [c.key for c in columns] == ["heuristics", "clear", "ngram", "ifd", "ifd.loss", "keep-top"]
    assert (columns[1].threshold, columns[1].direction) == (0.42, "keep-above")
    assert columns[3].threshold is None
    with pytest.raises(UsageError, match=r"no score 'cleer'.*heuristics, clear"):
        column_named(columns, "cleer")


def test_scores_follow_a_row_to_every_later_version(world: Seeded) -> None:
    """The members of v2 carry exactly the confidence that the clear step stored for them."""
    reader = Reader(world.store)
    column = column_named(columns_of(reader, world.v2), "clear")
    values = scores_at(reader, column, places(reader, world.v2), world.v2)
    assert len(values) == 27
    assert values.min() > 0.42
    judged = dict(zip(
        [i.hex() for i in world.store.pool(world.strict["correct"])["id"]],
        world.store.part(world.strict["clear"], "verdicts/pool")["score"], strict=True,
    ))  # fmt: skip
    for value, example in zip(values, world.store.pool(world.v2)["id"], strict=True):
        assert value == pytest.approx(judged[example.hex()])


def test_an_edited_example_keeps_the_scores_of_what_it_was(world: Seeded) -> None:
    """Rows 2 and 9 were corrected after the length filter scored them."""
    reader = Reader(world.store)
    column = column_named(columns_of(reader, world.v2), "heuristics")
    table = by_home(reader, column, world.v2)
    assert table[world.strict["correct"]].tolist() == [9.0, 9.0]


def test_a_range_keeps_rows_between_its_bounds_in_order(world: Seeded) -> None:
    page = rows(world.store, world.v2, where={"clear": (0.5, 0.7)}, order="-clear")
    given = [line.scores["clear"] for line in page.rows]
    assert given == sorted(given, reverse=True)
    assert all(0.5 <= value <= 0.7 for value in given)
    everything = [line.scores["clear"] for line in rows(world.store, world.v2, order="-clear").rows]
    assert given == [value for value in everything if 0.5 <= value <= 0.7]
    assert page.total == len(given) == sum(count for _, count in page.sources)


def test_rows_of_one_source_are_counted_by_source(world: Seeded) -> None:
    page = rows(world.store, world.v2, source="synthetic")
    assert (page.total, page.sources) == (7, (("synthetic", 7),))
    assert rows(world.store, world.v2, source="nobody").total == 0
    names, codes = facet(Reader(world.store), places(Reader(world.store), world.v2), "source")
    assert {names[code] for code in codes} == {"dolly", "synthetic"}
    assert rows(world.store, world.v2, license="unknown").total == 7


def test_everything_dropped_on_the_way_names_step_rule_and_evidence(world: Seeded) -> None:
    """2 duplicates, 5 too short, 13 unsure, 2 contaminated, 4 over the budget."""
    page = rows(world.store, world.v2, fate="dropped", limit=100)
    assert page.total == 2 + 5 + 13 + 2 + 4
    assert page.rules == ("repeats-another", "answer-too-short", "low-confidence", "benchmark-match", "below-budget")
    first = page.rows[0]
    assert first.step is not None
    assert (first.step.stage, first.verdict and first.verdict.rule) == ("dedup", "repeats-another")
    assert first.verdict is not None
    assert '"similarity": 1.0' in (first.verdict.evidence or "")
    unsure = rows(world.store, world.v2, fate="dropped", rule="low-confidence", order="margin", limit=3)
    margins = [line.verdict.margin for line in unsure.rows if line.verdict]
    assert unsure.total == 13
    assert all(margin is not None and margin < 0 for margin in margins)
    assert margins == sorted(margins, reverse=True)
    with pytest.raises(UsageError, match="no step before"):
        rows(world.store, world.v2, fate="dropped", rule="nothing")


def test_members_have_no_margin_and_say_so(world: Seeded) -> None:
    with pytest.raises(UsageError, match="members have no margin"):
        rows(world.store, world.v2, order="margin")


def test_a_search_sees_every_turn_whatever_the_case(world: Seeded) -> None:
    page = rows(world.store, world.v1, text="TOPIC 3?")
    assert page.total == len(page.rows) > 0
    assert all("topic 3?" in line.prompt for line in page.rows)
    assert rows(world.store, world.v1, text="nine plain WORDS").total == 20
    assert rows(world.store, world.v1, text="äöü").total == 0
    assert rows(world.store, world.v1, text=".*").total == 0


def test_a_search_that_runs_out_of_time_goes_on_where_it_stopped(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    reader = Reader(world.store)
    where = places(reader, world.strict["gather"])
    first = search(reader, where, "question", seconds=0)
    assert not first.whole
    assert 0 < first.seen < first.rows
    second = search(reader, where, "question", seconds=0)
    assert second.seen > first.seen
    assert second.whole
    assert second.hits.sum() > first.hits.sum() > 0
    assert np.array_equal(search_module.search(reader, where, "question", seconds=None).hits, second.hits)


def test_memory_lets_the_oldest_arrays_go() -> None:
    memory = Memory(most_bytes=1000)
    memory.keep(("a",), np.zeros(100))
    memory.keep(("b",), np.zeros(100))
    assert memory.get(("a",)) is None
    assert memory.of(("b",), lambda: "never") is not None
    memory.clear()
    assert memory.of(("b",), lambda: "again") == "again"


def test_a_reading_store_parses_a_manifest_once_and_sees_when_its_file_changed(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    store = ReadingStore.over(tmp_path)
    ref = world.steps["clear"]
    assert store.describe(ref) is store.describe(ref)
    assert [m.ref for m in store.versions()] == [m.ref for m in world.store.versions()]
    assert [m.ref for m in store.downstream(ref)] == [m.ref for m in world.store.downstream(ref)]
    (tmp_path / "steps" / ref.stage / f"{ref.fingerprint}.json").write_text("{")
    assert ref not in [m.ref for m in store.versions()]


def test_the_first_rows_of_a_large_order_are_those_of_the_whole_order(world: Seeded) -> None:
    """A page that orders only its own rows shows what a page of everything shows, ties by position."""
    everything = [line.id for line in rows(world.store, world.steps["gather"], limit=500).rows]
    assert len(everything) == 50
    by_score = [line.id for line in rows(world.store, world.v2, fate="dropped", order="score", limit=500).rows]
    for start in range(3):
        page = rows(world.store, world.v2, fate="dropped", order="score", start=start, limit=1)
        assert [line.id for line in page.rows] == by_score[start : start + 1]
        assert (page.total, page.next) == (26, start + 1)
        assert sum(count for _, count in page.sources) == 26
