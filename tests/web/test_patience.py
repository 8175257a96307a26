"""A page that takes long: a browser is told at once and gets the same work later, programs get the whole answer."""

import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from schemas.errors import MissingDataset
from schemas.examples import MESSAGES, turns
from schemas.lineage import Step
from storage.store import Store
from tests.web.driving import CHROMIUM, chromium, serving
from web.app import create_app
from web.patience import Patience

SLOW = "select sum(a.i * b.i) as s, '<script>' as t from range(2000) a(i), range(2000) b(i)"
HTML = {"accept": "text/html,application/xhtml+xml"}


class Slow:
    """A page that is done when ``finish`` is set; ``began`` counts how often it was made."""

    def __init__(self) -> None:
        self.finish = threading.Event()
        self.began: list[str] = []

    def page(self, request: Request) -> Response:
        self.began.append(f"{request.url.path}?{request.url.query}")
        assert self.finish.wait(30)
        if request.query_params.get("missing"):
            raise MissingDataset("no such thing")
        return PlainTextResponse("made")


def client_of(page: Callable[[Request], Response], seconds: float | None = 0.01) -> TestClient:
    patience = Patience(lambda _request, took: PlainTextResponse(f"working {took >= 0}", 202), seconds)
    routes = [Route("/slow", patience.with_(page)), Route("/slow.json", patience.with_(page))]

    def failed(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 404)

    return TestClient(Starlette(routes=routes, exception_handlers={MissingDataset: failed}))


def test_a_browser_is_told_and_then_gets_the_work_that_was_begun() -> None:
    slow = Slow()
    client = client_of(slow.page)
    told = client.get("/slow?a=1", headers=HTML)
    assert (told.status_code, told.text) == (202, "working True")
    slow.finish.set()
    made = client.get("/slow?a=1", headers=HTML)
    assert (made.status_code, made.text) == (200, "made")
    assert slow.began == ["/slow?a=1"]


def test_what_was_fetched_is_made_anew_for_the_next_one_who_asks() -> None:
    slow = Slow()
    slow.finish.set()
    client = client_of(slow.page, 30)
    assert [client.get("/slow", headers=HTML).text for _ in range(2)] == ["made", "made"]
    assert slow.began == ["/slow?", "/slow?"]


def test_another_question_is_other_work() -> None:
    slow = Slow()
    client = client_of(slow.page)
    assert [client.get(f"/slow?a={i}", headers=HTML).status_code for i in (1, 2)] == [202, 202]
    slow.finish.set()
    assert [client.get(f"/slow?a={i}", headers=HTML).text for i in (2, 1)] == ["made", "made"]
    assert sorted(slow.began) == ["/slow?a=1", "/slow?a=2"]


@pytest.mark.parametrize(
    ("address", "headers"),
    [("/slow", {"accept": "*/*"}), ("/slow.json", HTML), ("/slow?download=1", HTML)],
    ids=["program", "twin", "file"],
)
def test_programs_twins_and_files_wait_for_the_whole_answer(address: str, headers: dict[str, str]) -> None:
    slow = Slow()
    threading.Timer(0.1, slow.finish.set).start()
    answer = client_of(slow.page).get(address, headers=headers)
    assert (answer.status_code, answer.text) == (200, "made")


def test_an_error_of_the_page_is_that_of_the_one_who_fetches_it() -> None:
    slow = Slow()
    client = client_of(slow.page)
    assert client.get("/slow?missing=1", headers=HTML).status_code == 202
    slow.finish.set()
    failed = client.get("/slow?missing=1", headers=HTML)
    assert (failed.status_code, failed.text) == (404, "no such thing")


def test_without_seconds_a_browser_waits_too() -> None:
    slow = Slow()
    threading.Timer(0.1, slow.finish.set).start()
    assert client_of(slow.page, None).get("/slow", headers=HTML).text == "made"


def test_the_browser_says_what_is_being_made_and_shows_it_when_asked_again(tmp_path: Path) -> None:
    _one_example(tmp_path)
    client = TestClient(create_app(tmp_path, allowed_hosts=("testserver",), patience_seconds=0.001))
    told = client.get("/sql/one@v1", params={"q": SLOW}, headers=HTML)
    assert told.status_code == 202
    assert "This is being worked out" in told.text
    assert "sql: one@v1" in told.text
    assert "<script>'" not in told.text
    assert 'http-equiv="refresh"' in told.text
    made = client.get("/sql/one@v1", params={"q": SLOW}, headers=HTML)
    assert made.status_code == 200
    assert "3,996,001,000,000" in made.text


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_real_browser_arrives_at_the_page_by_itself(tmp_path: Path, scripts: bool) -> None:
    pytest.importorskip("playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    _one_example(tmp_path)
    with serving(tmp_path, patience_seconds=0.001) as address, chromium() as browser:
        page = browser.new_context(java_script_enabled=scripts).new_page()
        told = page.goto(f"{address}/sql/one@v1?{urlencode({'q': SLOW})}")
        assert told.status == 202
        page.get_by_text("3,996,001,000,000").wait_for(timeout=20_000)
        assert page.get_by_role("heading", name="SQL over one@v1").is_visible()


def _one_example(root: Path) -> None:
    """A store with one version, tagged ``one``."""
    store = Store.open(root)
    rows = {"id": [bytes(16)], "content_hash": [bytes(16)], "messages": [turns(("user", "a"), ("assistant", "b"))]}
    draft = store.draft(Step(stage="ingest", method={"source": "x"}))
    draft.put("examples", pl.DataFrame(rows, schema_overrides={"messages": MESSAGES}))
    draft.homes = [draft.step.output]
    store.tag("one", store.commit(draft).ref)
