"""`query`: what a SELECT sees, and that nothing else gets out or in."""

from pathlib import Path

import duckdb
import polars as pl
import pytest

from schemas.errors import CorruptStore, UsageError
from schemas.examples import EXAMPLES, turns
from schemas.identity import digest16
from schemas.lineage import Step
from storage.questions.query import query
from storage.store import Store
from tests.seeded import Seeded, ids_of, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_examples_are_the_members_in_order_with_hex_ids(world: Seeded) -> None:
    for name in ("dolly", "clear", "correct", "mix", "publish"):
        ref = world.steps[name]
        found = query(world.store, ref, "select id from examples order by position")
        assert [row[0] for row in found.rows] == ids_of(world.store, ref), name


def test_verdicts_name_their_rule(world: Seeded) -> None:
    found = query(
        world.store,
        world.strict["clear"],
        "select rule, count(*), min(score) >= 0.2 from verdicts where fate = 'reject' group by rule",
    )
    assert found.rows == (("low-confidence", 13, True),)


def test_verdicts_stand_beside_the_examples_they_judge(world: Seeded) -> None:
    judged = query(world.store, world.steps["dedup"], "select position, id from verdicts order by position")
    assert [row[1] for row in judged.rows] == ids_of(world.store, world.steps["gather"])


def test_scores_refused_and_calls_are_tables(world: Seeded) -> None:
    best = query(world.store, world.steps["rank"], "select id, loss from scores order by score desc limit 1")
    assert len(best.rows[0][0]) == 32
    generated = world.steps["synthetic"]
    reasons = query(world.store, generated, "select reason, count(*) from refused group by 1 order by 2 desc")
    assert reasons.rows == (("too-similar", 2), ("unparsed", 1))
    cost = query(world.store, generated, "select count(cost_usd), count(*) from calls")
    assert cost.rows == ((4, 5),)


def test_the_row_limit_says_that_there_is_more(world: Seeded) -> None:
    found = query(world.store, "support-bot", "select * from members", max_rows=5)
    assert (len(found.rows), found.more) == (5, True)


def test_positions_hold_across_row_groups_and_objects(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    draft = store.draft(Step(stage="ingest", method={"source": "x"}))
    for start in (0, 70_000):
        ids = [digest16(str(i).encode()) for i in range(start, start + 70_000)]
        rows = {"id": ids, "content_hash": ids, "source": ["x"] * len(ids)}
        frame = pl.DataFrame(rows).with_columns(
            pl.lit([turns(("user", "q"))], dtype=pl.List(EXAMPLES["messages"])).list.first().alias("messages")
        )
        draft.put("examples", frame)
    draft.homes = [draft.step.output]
    ref = store.commit(draft).ref
    found = query(
        store, ref, "select position, id from examples where position in (65535, 65536, 69999, 70000, 139999)"
    )
    assert {row[0]: row[1] for row in found.rows} == {
        i: digest16(str(i).encode()).hex() for i in (65535, 65536, 69999, 70000, 139999)
    }


def test_ilike_says_what_duckdb_says_of_every_character(world: Seeded) -> None:
    letters = "(select chr(i::int) as c from range(1, 1114112) t(i) where i < 55296 or i > 57343)"
    asked = (
        "select count(*), count(*) filter (c ilike lower(c)), count(*) filter (c ilike upper(c)), "
        "count(*) filter (c ilike '%k%'), count(*) filter (c ilike '_'), count(*) filter (c not ilike '%I%'), "
        f"count(*) filter (c ilike 'ß'), count(*) filter ('Straße K' ilike '%STRASS_' or c ilike 'ſ') from {letters}"
    )
    found = query(world.store, "support-bot", asked)
    assert found.rows == tuple(duckdb.connect().execute(asked).fetchall())
    nulls = "select null ilike 'a', 'a' ilike null, 'a%' ilike 'A%', 'ab' ilike '_B', 'a' not ilike 'A'"
    assert query(world.store, "support-bot", nulls).rows == ((None, None, True, True, False),)


HOSTILE = {
    "copy out": "COPY (SELECT 1) TO '{out}/x.csv'",
    "attach": "ATTACH '{out}/y.db'",
    "read csv": "SELECT * FROM read_csv('/etc/passwd')",
    "read text": "SELECT * FROM read_text('/etc/passwd')",
    "read blob": "SELECT * FROM read_blob('/etc/hostname')",
    "file as table": "SELECT * FROM '/etc/passwd'",
    "glob": "SELECT * FROM glob('/etc/*')",
    "sniff": "SELECT * FROM sniff_csv('/etc/passwd')",
    "parquet metadata": "SELECT * FROM parquet_metadata('{out}/other.parquet')",
    "another parquet": "SELECT * FROM read_parquet('{out}/other.parquet')",
    "up and down again": "SELECT * FROM read_parquet('{store}/objects/../../other.parquet')",
    "http": "SELECT * FROM read_csv('http://127.0.0.1:1/x')",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "pragma": "PRAGMA database_list",
    "pragma behind a comment": "/* x */ -- y\nPRAGMA database_list",
    "set": "SET enable_external_access = true",
    "reset": "RESET lock_configuration",
    "two statements": "SELECT 1; SELECT 2",
    "second is a copy": "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'",
    "create": "CREATE TABLE t (a int)",
    "drop": "DROP VIEW examples",
    "insert": "INSERT INTO examples VALUES (1)",
    "update": "UPDATE examples SET id = ''",
    "export": "EXPORT DATABASE '{out}/e'",
    "call": "CALL pragma_version()",
    "checkpoint": "CHECKPOINT",
    "query table function": "FROM query('COPY (SELECT 1) TO ''{out}/x.csv''')",
    "environment": "SELECT getenv('HOME')",
    "python variable": "SELECT * FROM connection",
    "nothing": "",
    "only a comment": "-- hello",
    "not sql": "hello world",
    "nul": "SELECT 1\x00; DROP VIEW examples",
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_sql_is_refused_and_leaves_nothing(world: Seeded, tmp_path: Path, attack: str) -> None:
    pl.DataFrame({"secret": [1]}).write_parquet(tmp_path / "other.parquet")
    files = sorted(tmp_path.rglob("*"))
    sql = attack.format(out=tmp_path, store=world.store.root)
    with pytest.raises(UsageError) as refused:
        query(world.store, "support-bot", sql)
    assert "root:" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == files


def test_settings_and_secrets_tell_nothing_of_this_machine(world: Seeded) -> None:
    assert query(world.store, "support-bot", "SELECT * FROM duckdb_secrets()").rows == ()
    locked = query(
        world.store,
        "support-bot",
        "SELECT name, value FROM duckdb_settings() WHERE name IN ('enable_external_access', 'lock_configuration')",
    )
    assert dict(locked.rows) == {"enable_external_access": "false", "lock_configuration": "true"}


def test_a_query_that_runs_too_long_is_stopped(world: Seeded) -> None:
    forever = "select sum(a.i * b.i) from range(1000000) a(i), range(1000000) b(i)"
    with pytest.raises(UsageError, match=r"ran longer than 0\.3 s and was stopped"):
        query(world.store, "support-bot", forever, max_seconds=0.3)


def test_a_mistake_names_the_tables_there_are(world: Seeded) -> None:
    with pytest.raises(UsageError, match="tables are members, examples"):
        query(world.store, "support-bot", "select * from rows")


@pytest.mark.parametrize("left", [0, 3, 200])
def test_an_object_that_was_cut_short_is_damage_and_no_mistake_in_the_statement(tmp_path: Path, left: int) -> None:
    world = seeded(tmp_path)
    ref = world.steps["dolly"]
    (path,) = world.store.paths(ref, "examples")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CorruptStore, match=f"run `provender verify {ref}`"):
        query(world.store, ref, "select id from examples")
