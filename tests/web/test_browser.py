"""The browser's pages on the seeded store: what they show, what they refuse, and hostile text in every field."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from schemas.errors import MissingDataset, UsageError
from storage.questions.benchmarks import Benchmarks, HitsPage
from storage.questions.catalogue import Catalogue
from storage.questions.cost import Cost
from storage.questions.lineage import Lineage
from storage.questions.mixtures import Mixtures
from storage.questions.neighbors import Neighbors
from storage.questions.progress import RunsPage
from storage.questions.rows import RowsPage, rows
from storage.questions.views import Trace, VersionPage
from storage.questions.what_if import WhatIf
from tests.seeded import Seeded, seeded
from tests.web.parsed import Page
from web.app import create_app
from web.pages import CardPage, Compared
from web.pieces import marked, segments, word_diff
from web.question_pages import BlastPage
from web.row_pages import SqlPage

HOSTS = ("testserver",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def client(world: Seeded) -> TestClient:
    return TestClient(create_app(world.store.root, allowed_hosts=HOSTS))


def test_a_version_links_every_count_to_its_rows(world: Seeded, client: TestClient) -> None:
    page = Page(client.get("/d/support-bot@v2").text)
    assert "27 examples from dolly and synthetic" in page.text
    wanted = f"/rows/{world.strict['clear']}?fate=reject&rule=low-confidence&in=support-bot%40v2"
    assert wanted in page.links
    rows = Page(client.get(wanted).text)
    assert "13 rows of" in rows.text
    assert world.dolly[0][:12] in rows.text


def test_every_link_of_every_page_leads_somewhere(world: Seeded, client: TestClient) -> None:
    todo, seen = ["/"], set()
    while todo and len(seen) < 150:
        address = todo.pop()
        if address.split("#")[0] in seen:
            continue
        seen.add(address.split("#")[0])
        answer = client.get(address)
        lost = address.startswith("/runs/")  # the seeded store's run left no log
        assert answer.status_code == (404 if lost else 200), address
        if "html" in answer.headers["content-type"] and not address.startswith("/report"):
            todo += [link for link in Page(answer.text).links if not link.startswith("#")]
    assert len(seen) == 150


def test_an_example_answers_in_one_sentence_first(world: Seeded, client: TestClient) -> None:
    page = client.get(f"/e/{world.dolly[0][:10]}?in=support-bot@v2").text
    sentence = "Dropped at filter by clear: confidence (low-confidence); score 0.2 &lt;= threshold 0.42 (margin 0.22)."
    assert sentence in page
    assert page.index(sentence) < page.index("Conversation")


def test_a_generated_example_shows_prompt_reply_seeds_and_refused_siblings(world: Seeded, client: TestClient) -> None:
    page = Page(client.get(f"/e/{world.synthetic[0]}").text)
    for shown in (
        "Come up with a series of tasks",
        "Invented text 0",
        "temperature",
        "Candidate 0 that repeats a seed",
    ):
        assert shown in page.text
    assert f"/e/{world.seeds[0]}?in=support-bot%40v2" in page.links


def test_an_edit_is_shown_word_by_word(world: Seeded, client: TestClient) -> None:
    page = client.get(f"/e/{world.dolly[2]}").text
    assert "<ins> (corrected)</ins>" in page
    assert [p[:2] for p in word_diff("a b c", "a x c")] == [("same", "a "), ("old", "b"), ("new", "x"), ("same", " c")]
    assert segments("say:\n```py\nx = 1\n```\ndone") == [
        ("text", "say:", ""),
        ("code", "x = 1", "py"),
        ("text", "done", ""),
    ]


def test_a_contaminated_example_has_the_matched_passage_marked(world: Seeded, client: TestClient) -> None:
    leaked = rows(world.store, world.strict["decontaminate"], fate="reject").rows[0]
    assert leaked.prompt.startswith("Question")
    assert "<mark>Question</mark> " in client.get(f"/e/{leaked.id}?in=support-bot@v2").text
    assert marked("abc", 0, ()) == [("text", "abc", "")]


def test_a_bare_tag_leads_to_its_version(client: TestClient) -> None:
    answer = client.get("/d/support-bot", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/d/support-bot@v2")


def test_each_page_has_a_json_twin_of_its_model(world: Seeded, client: TestClient) -> None:
    for address, model in (
        ("/datasets.json", Catalogue),
        ("/versions.json", Catalogue),
        ("/d/support-bot@v2.json", VersionPage),
        (f"/rows/{world.v1}.json", RowsPage),
        (f"/e/{world.dolly[0]}.json", Trace),
        ("/compare.json?a=support-bot@v1&b=support-bot@v2", Compared),
        ("/graph/support-bot@v2.json?up=1&down=1", Lineage),
        ("/card/support-bot@v2.json", CardPage),
        ("/hits/support-bot@v2.json", HitsPage),
        ("/what-if/support-bot@v2.json?t.clear=0.3", WhatIf),
        ("/sql/support-bot@v2.json?q=select 1", SqlPage),
        ("/blast.json?kind=source&name=dolly", BlastPage),
        (f"/near/{world.dolly[0]}.json?in=support-bot@v2", Neighbors),
        ("/benchmarks.json", Benchmarks),
        ("/mixtures.json", Mixtures),
        ("/runs.json", RunsPage),
        ("/cost.json", Cost),
    ):
        answer = client.get(address)
        assert answer.headers["content-type"] == "application/json"
        model.model_validate(answer.json())


def test_mistakes_are_pages_with_a_way_out(client: TestClient) -> None:
    for address, status, says in (
        ("/d/nothing", 404, "no tag"),
        ("/e/00000000", 404, "no example whose id begins with 00000000"),
        ("/e/xyz", 400, "is not an example id"),
        ("/rows/support-bot@v2?fate=maybe", 400, "fate is one of"),
        ("/rows/support-bot@v2?start=-1", 400, "is not a number of rows"),
        ("/rows/support-bot@v2?order=nothing", 400, "there is no score"),
        ("/rows/support-bot@v2?min.clear=x", 400, "is not a number"),
        ("/what-if/support-bot@v2?t.nothing=1", 400, "there is no threshold"),
        ("/blast?kind=source&name=nobody", 400, "knows no source"),
        ("/blast?kind=weather&name=x", 400, "kind is one of"),
        ("/runs/nothing", 404, "0 runs begin with"),
        ("/d/..%2f..%2fetc", 400, "is refused"),
        ("/nowhere", 404, "no such page"),
        ("/static/..%2fapp.py", 404, "no such"),
    ):
        answer = client.get(address)
        assert answer.status_code == status, (address, answer.status_code)
        assert says in Page(answer.text).text, address
    assert "no tag" in client.get("/d/nothing.json").json()["error"]


def test_downloads_are_attachments(client: TestClient) -> None:
    for address, name in (("/report/support-bot@v2", "report.html"), ("/card/support-bot@v2?download=1", "README.md")):
        answer = client.get(address)
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert answer.headers["content-security-policy"] == "sandbox"


def test_headers_leave_a_browser_little_to_do(client: TestClient) -> None:
    for address in ("/", "/nowhere", "/d/support-bot@v2.json", "/static/web.js"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_only_listed_hosts_are_served(world: Seeded) -> None:
    client = TestClient(create_app(world.store.root))
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil.example"):
        assert client.get("/", headers={"host": host}).status_code == 403, host
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "LOCALHOST:1"):
        assert client.get("/", headers={"host": host}).status_code == 200, host


def test_other_sites_are_refused_and_nothing_is_written(world: Seeded, client: TestClient) -> None:
    assert client.get("/", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/", headers={"origin": "null"}).status_code == 403
    fetched = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/d/support-bot@v2.json", headers=fetched).status_code == 403
    before = sorted(path for path in world.store.root.rglob("*"))
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client.request(method, "/d/support-bot@v2").status_code == 405
    assert sorted(path for path in world.store.root.rglob("*")) == before


def test_a_token_is_asked_for_once_and_then_a_cookie_is_enough(world: Seeded) -> None:
    token = "correct-horse-battery"
    client = TestClient(create_app(world.store.root, token=token, allowed_hosts=HOSTS))
    assert client.get("/").status_code == 401
    assert client.get("/datasets.json?token=wrong-horse-battery").status_code == 401
    assert client.get("/static/style.css").status_code == 401
    assert client.get("/", headers={"authorization": f"Bearer {token}"}).status_code == 200
    opened = client.get(f"/d/support-bot@v2?token={token}&x=1", follow_redirects=False)
    assert opened.headers["location"] == "/d/support-bot@v2?x=1"
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert token not in cookie
    assert client.get("/").status_code == 200
    assert client.get("/").headers["cache-control"] == "no-store"
    with pytest.raises(UsageError, match="fewer than 16"):
        create_app(world.store.root, token="short")


def test_a_redirect_with_a_token_stays_on_this_site(world: Seeded) -> None:
    token = "correct-horse-battery"
    client = TestClient(create_app(world.store.root, token=token, allowed_hosts=HOSTS))
    answer = client.get(f"//evil.example/x?token={token}", follow_redirects=False)
    assert not urlsplit(answer.headers.get("location", "/")).netloc


def test_there_is_no_browser_of_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataset):
        create_app(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
