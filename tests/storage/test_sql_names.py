"""`names_in`: a view may leave a column out only where the statement cannot see it."""

import duckdb
import pytest

from storage.query import query
from storage.sql_names import names_in
from tests.seeded import Seeded, ids_of, seeded

ALL = {
    "star": "select * from examples",
    "from first": "from examples",
    "star of a table": "select e.* from examples e",
    "columns": "select columns('e.*') from examples",
    "whole row": "select examples from examples",
    "whole row of an alias": "select e from examples e",
    "whole row, other case": "select E from examples e",
    "by number": "select #1 from examples",
    "natural join": "select position from examples natural join members",
    "renamed in order": "select a from examples e(a, b, c)",
    "describe": "describe examples",
    "summarize": "summarize examples",
    "pivot": "from (pivot examples on source using count(*))",
    "star in a CTE": "with x as (select * from examples) select id from x",
    "star in a union": "select id from members union select extra from (from examples)",
    "no statement": "hello",
}
SOME = {
    "select id, upper(source) as s from examples where last_turn ilike '%x%' order by s": {"id", "source", "last_turn", "s"},
    "select e.id from examples e join members m using (position)": {"e", "id", "position"},
    "select count(*) from examples": set(),
    "with x as (select id from examples) select x.id from x": {"id", "x"},
    "select extra->>'$.category' from examples": {"extra"},
    "select messages[1].content from (select messages from examples)": {"messages"},
}  # fmt: skip


@pytest.mark.parametrize("sql", ALL.values(), ids=ALL.keys())
def test_a_statement_that_may_see_every_column_has_no_names(sql: str) -> None:
    assert names_in(duckdb.connect(), sql) is None


@pytest.mark.parametrize(("sql", "names"), SOME.items(), ids=SOME.keys())
def test_every_name_that_a_reference_holds_is_told(sql: str, names: set[str]) -> None:
    assert names_in(duckdb.connect(), sql) == names


def test_both_forms_of_a_published_version_say_the_same(world: Seeded) -> None:
    some = query(world.store, "support-bot", "select position, id, source, last_turn from examples order by position")
    every = query(world.store, "support-bot", "select * from examples order by position")
    wanted = [every.columns.index(name) for name in some.columns]
    assert [tuple(row[i] for i in wanted) for row in every.rows] == list(some.rows)
    assert [row[1] for row in some.rows] == ids_of(world.store, world.store.resolve("support-bot"))
    extra = query(world.store, "support-bot", "select distinct extra from examples")
    assert extra.rows == (('{"category": "open_qa"}',),)


def test_verdicts_and_scores_say_the_same_with_and_without_ids(world: Seeded) -> None:
    for name, table in (("clear", "verdicts"), ("rank", "scores")):
        without = query(world.store, world.steps[name], f"select position, score from {table} order by position")
        having = query(world.store, world.steps[name], f"select position, score, id from {table} order by position")
        assert [row[:2] for row in having.rows] == list(without.rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))
