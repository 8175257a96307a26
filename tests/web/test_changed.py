"""All rows behind a figure of a comparison: as many as it says, each one really on one side alone."""

import pytest
from starlette.testclient import TestClient

from schemas.errors import UsageError
from storage.questions.changed_rows import KINDS, ChangedPage, changed_rows
from storage.questions.diff import diff
from tests.seeded import Seeded, ids_of, seeded
from tests.web.parsed import Page
from web.app import create_app


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_the_rows_are_those_that_the_comparison_counts(world: Seeded) -> None:
    told = diff(world.store, "support-bot@v1", "support-bot@v2")
    found = {which: changed_rows(world.store, "support-bot@v1", "support-bot@v2", which, limit=500) for which in KINDS}
    assert {which: page.total for which, page in found.items()} == {
        "added": told.added, "removed": told.removed, "edited": told.edited, "common": told.common,
    }  # fmt: skip
    old, new = (set(ids_of(world.store, ref)) for ref in (world.v1, world.v2))
    assert {row.id for row in found["added"].rows} == new - old
    assert {row.id for row in found["removed"].rows} == old - new
    assert {row.id for row in found["common"].rows} == old & new
    assert told.added
    assert told.removed


def test_an_edited_row_stands_beside_what_it_became(world: Seeded) -> None:
    before, after = world.steps["length"], world.steps["correct"]
    page = changed_rows(world.store, before, after, "edited")
    assert page.total == diff(world.store, before, after).edited == 2
    pairs = {row.id: row.became for row in page.rows}
    assert set(pairs) <= set(ids_of(world.store, before))
    assert set(pairs.values()) <= set(ids_of(world.store, after))
    assert not set(pairs) & set(ids_of(world.store, after))


def test_pages_go_on_where_the_last_one_ended(world: Seeded) -> None:
    whole = changed_rows(world.store, "support-bot@v1", "support-bot@v2", "common", limit=500).rows
    first = changed_rows(world.store, "support-bot@v1", "support-bot@v2", "common", limit=5)
    then = changed_rows(world.store, "support-bot@v1", "support-bot@v2", "common", start=first.next or 0, limit=5)
    assert (*first.rows, *then.rows) == whole[:10]
    with pytest.raises(UsageError, match="rows of a comparison are"):
        changed_rows(world.store, "support-bot@v1", "support-bot@v2", "gone")  # type: ignore[arg-type]


def test_every_figure_of_the_comparison_leads_to_them(world: Seeded) -> None:
    client = TestClient(create_app(world.store.root, allowed_hosts=("testserver",), patience_seconds=None))
    page = Page(client.get("/compare?a=support-bot@v1&b=support-bot@v2").text)
    led = [link for link in page.links if "rows=" in link]
    assert {link.rpartition("rows=")[2] for link in led} == {"added", "removed", "common"}
    for link in led:
        assert client.get(link).status_code == 200
        ChangedPage.model_validate(client.get(link.replace("/compare?", "/compare.json?")).json())
    assert client.get("/compare?a=support-bot@v1&b=support-bot@v2&rows=gone").status_code == 400
