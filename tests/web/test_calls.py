"""The calls behind a number: listed, filtered, in order, each a page; an answer of SQL as a file; a recipe as a file."""

import csv
import io
from pathlib import Path

import polars as pl
import pytest
import yaml
from starlette.testclient import TestClient

from schemas.errors import UsageError
from schemas.identity import digest16
from storage.questions.call_list import CallsPage, calls_of
from storage.store import Store
from tests.seeded import Seeded, seeded
from tests.seeding import Builder
from tests.web.parsed import Page
from web.app import create_app


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def client(world: Seeded) -> TestClient:
    return TestClient(create_app(world.store.root, allowed_hosts=("testserver",), patience_seconds=None))


def judged_by_model(store: Store) -> str:
    """A filter with four calls: two answered (one cut off), one from the cache, one failed."""
    build = Builder(store, "")
    pool = build.ingest("four", [(f"Question {i}?", f"Answer {i}") for i in range(4)])
    draft = build.draft("filter", {"method": "judge"}, {"pool": pool})
    draft.keep_members(store.describe(pool))
    draft.put(
        "calls",
        pl.DataFrame(
            {
                "key": [digest16(f"asked {i}".encode()) for i in range(4)],
                "kind": ["generate"] * 4,
                "model": ["big", "big", "small", "big"],
                "request": [f'{{"messages": [["system", "judge"], ["user", "Is {i} good?"]]}}' for i in range(4)],
                "reply": ["yes", "no, because", "yes", ""],
                "finish_reason": ["stop", "length", "stop", None],
                "prompt_tokens": [10, 30, 20, None],
                "completion_tokens": [1, 8, 1, None],
                "cost_usd": [0.01, 0.03, None, None],
                "attempts": [1, 2, 0, 3],
                "cached": [False, False, True, False],
                "failure": [None, None, None, "the server said 500"],
            },
            schema_overrides={"attempts": pl.Int32},
        ),
    )
    return str(store.commit(draft).ref)


def test_calls_are_told_apart_by_how_they_ended_and_put_in_order(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    ref = judged_by_model(store)
    whole = calls_of(store, ref)
    assert [row.asked for row in whole.rows] == [f"Is {i} good?" for i in range(4)]
    assert (whole.total, whole.next, whole.step) == (4, None, ref)
    states = {state: [row.position for row in calls_of(store, ref, state=state).rows]
              for state in ("failed", "cut-off", "cached", "unpriced", "scored")}  # fmt: skip
    assert states == {"failed": [3], "cut-off": [1], "cached": [2], "unpriced": [2, 3], "scored": []}
    assert [row.position for row in calls_of(store, ref, order="prompt_tokens").rows] == [1, 2, 0, 3]  # unknown last
    assert [row.position for row in calls_of(store, ref, model="big", order="attempts").rows] == [3, 1, 0]
    page = calls_of(store, ref, start=1, limit=2)
    assert ([row.position for row in page.rows], page.next) == ([1, 2], 3)
    with pytest.raises(UsageError, match="called no model on the way"):
        calls_of(store, ref, step="filter@0123456789abcdef")


def test_the_number_of_calls_leads_to_the_calls_and_each_to_its_words(world: Seeded, client: TestClient) -> None:
    version = Page(client.get("/d/support-bot@v2").text)
    assert "/call/support-bot@v2" in version.links
    listed = Page(client.get("/call/support-bot@v2").text)
    one = next(link for link in listed.links if "key=" in link)
    told = Page(client.get(one).text)
    assert "Come up with a series of tasks" in told.text
    CallsPage.model_validate(client.get("/call/support-bot@v2.json?state=any&order=cost_usd").json())
    none = Page(client.get(f"/call/{world.steps['dolly']}").text)
    assert "No language model was called on the way" in none.text
    assert client.get("/call/support-bot@v2?state=odd").status_code == 400
    assert client.get("/call/support-bot@v2?order=odd").status_code == 400


def test_an_answer_of_sql_can_be_taken_away_without_formulas(client: TestClient) -> None:
    asked = {"q": "select '=1+1' as a, 2 as b"}
    told = client.get("/sql/support-bot@v2.csv", params=asked)
    assert told.headers["content-disposition"] == 'attachment; filename="answer.csv"'
    assert list(csv.reader(io.StringIO(told.text))) == [["a", "b"], ["'=1+1", "2"]]
    assert client.get("/sql/support-bot@v2.jsonl", params=asked).text == '{"a": "=1+1", "b": 2}\n'
    assert client.get("/sql/support-bot@v2.csv", params={"q": "drop table examples"}).status_code == 400


def test_the_recipe_of_a_version_is_a_file_to_run_again(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    recipe = {"name": "again", "sources": {"web": "w.jsonl", "code": "c.jsonl"}}
    world.store.tag("again", world.v1, recipe=recipe)
    client = TestClient(create_app(tmp_path, allowed_hosts=("testserver",), patience_seconds=None))
    answer = client.get("/card/again@v1", params={"download": "recipe"})
    assert answer.headers["content-disposition"] == 'attachment; filename="recipe.yaml"'
    assert list(yaml.safe_load(answer.text)["sources"]) == ["web", "code"]
    assert "provender show again@v1 --recipe" in Page(client.get("/d/again@v1").text).text


def test_where_nobody_looked_for_a_benchmark_it_is_unknown_and_what_to_do_is_said(
    world: Seeded, client: TestClient
) -> None:
    ref = world.strict["clear"]
    told = Page(client.get(f"/hits/{ref}").text).text
    assert "Nobody looked yet" in told
    assert f"provender decontaminate check {ref} --against" in told
    assert client.get(f"/hits/{ref}.json").json()["looked"] == []
    assert "contamination is unknown" in Page(client.get(f"/d/{ref}").text).text


def test_an_empty_list_of_rows_offers_where_else_to_look(world: Seeded, client: TestClient) -> None:
    for fate, says in (
        ("member", "Look among the dropped rows instead"),
        ("dropped", "Look among the rows that are in"),
    ):
        asked = {"fate": fate, "text": "no such words", "min.clear": "0.1"}
        page = Page(client.get("/rows/support-bot@v2", params=asked).text)
        assert "No row matches." in page.text
        assert says in page.text
        assert all(client.get(link).status_code == 200 for link in page.links if link.startswith("/rows/"))


def test_a_bar_of_scores_that_belong_to_no_member_leads_nowhere_and_all_others_to_rows(
    world: Seeded, client: TestClient
) -> None:
    """Also where two steps of one method gave a score each, so that its key carries the step."""
    for manifest in world.store.versions():
        page = Page(client.get(f"/d/{manifest.ref}?scores=all").text)
        bars = {link for link in page.links if "min." in link}
        for link in sorted(bars)[:40:4]:
            assert client.get(link).status_code == 200, link


def test_what_was_dropped_as_a_repeat_leads_to_its_clusters(world: Seeded, client: TestClient) -> None:
    """Three examples are alike: one is kept, two are dropped."""
    page = Page(client.get(f"/rows/{world.steps['dedup']}?fate=reject").text)
    largest, sizes = (link for link in page.links if link.startswith("/sql/") and "q=" in link)
    rows = client.get(largest.replace("?", ".json?", 1)).json()["answer"]["rows"]
    assert [row[1:] for row in rows] == [[2, 1.0]]
    assert client.get(f"/e/{rows[0][0]}").status_code == 200
    assert client.get(sizes.replace("?", ".json?", 1)).json()["answer"]["rows"] == [[3, 1]]
