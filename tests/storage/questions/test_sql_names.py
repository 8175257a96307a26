"""What a statement names: a view may leave a column out, and whole rows may be read late, only where nobody can tell."""

import duckdb
import pytest

from schemas.errors import UsageError
from storage.questions.query import query
from storage.questions.sql_names import NOT_TWICE, names_beside_star, names_in, parsed
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
    assert names_in(parsed(duckdb.connect(), sql)) is None


@pytest.mark.parametrize(("sql", "names"), SOME.items(), ids=SOME.keys())
def test_every_name_that_a_reference_holds_is_told(sql: str, names: set[str]) -> None:
    assert names_in(parsed(duckdb.connect(), sql)) == names


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


CHOSEN = [
    "select * from examples order by position",
    "select * from examples e where e.id = '{id}' order by position",
    "select * from examples where id in ('{id}', 'no id') order by position",
    "select * exclude (messages, extra) from examples where id like '{id:.1}%' order by position",
    "select *, length(last_turn) as n from examples order by n desc, position limit 5",
    "select position, *, upper(source) as source from examples where source ilike '%OL%' order by source, position limit 4",
    "select * from examples where synthetic_depth = 1 and content_hash > '8' order by id, position",
    "select * from examples where len(messages) > 1 and position between 3 and 9 order by position desc",
    "select * from examples where id = 'no id'",
    "select * from Examples where ID = '{id}' order by Position",
]  # fmt: skip
NOT_CHOSEN = [
    "select id from examples",
    "select * from examples limit 3 offset 2",
    "select * from examples limit 10%",
    "select distinct * from examples",
    "select *, row_number() over () from examples",
    "select * from examples where random() < 0.5",
    "select * from examples using sample 3",
    "select * from examples order by 2",
    "select * from examples order by all",
    "select * from examples where position = (select max(position) from members)",
    "select * from examples natural join members",
    "select * from examples, members",
    "select * from examples e(a, b)",
    "select * replace (1 as position) from examples",
    "select * rename (id as position) from examples",
    "select * exclude (position) from examples",
    "select 5 as position, * from examples",
    "select unnest(messages), * from examples",
    "select columns(*) from examples",
    "select *, examples from examples",
    "with x as (select 1) select * from examples",
    "select * from examples union select * from examples",
    "select * from members",
]


@pytest.mark.parametrize("sql", CHOSEN)
@pytest.mark.parametrize("name", ["dolly", "correct", "mix", "publish"])
def test_rows_that_are_read_late_are_the_rows_of_the_whole_view(world: Seeded, name: str, sql: str) -> None:
    ref = world.steps[name]
    asked = sql.format(id=ids_of(world.store, ref)[3])
    assert names_beside_star(parsed(duckdb.connect(), asked), "examples") is not None
    slow = query(world.store, ref, f"with other as (select 1) {asked}")  # over the whole view
    for most in (1000, 2):
        found = query(world.store, ref, asked, max_rows=most)
        assert (found.columns, found.rows) == (slow.columns, slow.rows[:most])
        assert found.more == (len(slow.rows) > most)


@pytest.mark.parametrize("sql", NOT_CHOSEN)
def test_a_statement_that_may_say_something_else_over_fewer_rows_is_asked_once(sql: str) -> None:
    assert names_beside_star(parsed(duckdb.connect(), sql), "examples") is None


def test_every_function_of_duckdb_that_changes_its_answer_is_known() -> None:
    found = duckdb.connect().execute("select function_name from duckdb_functions() where stability = 'VOLATILE'")
    assert {row[0] for row in found.fetchall()} <= NOT_TWICE


def test_a_version_without_examples_has_an_empty_table(world: Seeded) -> None:
    model = world.steps["finetune"]
    assert query(world.store, model, "select * from examples").rows == ()
    with pytest.raises(UsageError, match="source"):
        query(world.store, model, "select * from examples where source = 'x'")


def test_a_mistake_beside_a_star_is_told_with_all_columns(world: Seeded) -> None:
    with pytest.raises(UsageError, match="content_hash"):
        query(world.store, "support-bot", "select * from examples where content_hsh = 'x'")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))
