"""The browser's pages on the seeded store: what they show, what they refuse, and hostile text in every field."""

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from schemas.errors import MissingDataset, UsageError
from storage.benchmarks import Benchmarks, HitsPage
from storage.catalogue import Catalogue
from storage.cost import Cost
from storage.lineage import Lineage
from storage.mixtures import Mixtures
from storage.neighbors import Neighbors
from storage.progress import RunsPage
from storage.rows import RowsPage, rows
from storage.store import Store
from storage.views import Trace, VersionPage
from storage.what_if import WhatIf
from tests.seeded import Seeded, seeded
from web.app import create_app
from web.pages import CardPage, Compared
from web.pieces import marked, segments, word_diff
from web.question_pages import BlastPage
from web.row_pages import SqlPage

HOSTS = ("testserver",)

#: One payload per way out of text: element, attribute, style, script, URL, template, entity, comment, bidi, terminal.
PAYLOADS = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "</title></style></textarea></pre></template><iframe src=javascript:alert(1)>",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<base href=//evil.example/><link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content=0;url=//evil.example/>",
    "{{7*7}}{% raw %}${7*7}#{7*7}",
    "&lt;script&gt;&#60;script&#62;&quot; onmouseover=alert(1) x=",
    "<!--<script>--><![CDATA[<script>alert(1)</script>]]>",
    "<math><mtext></mtext><style><img src=x onerror=alert(1)></style></math>",
    "\u202eevil\u2066\u200b\x1b[31m\x07",
    "<form action=//evil.example/><input formaction=//evil.example/ autofocus onfocus=alert(1)>",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def client(world: Seeded) -> TestClient:
    return TestClient(create_app(world.store.root, allowed_hosts=HOSTS))


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.tags if tag == "a" and attributes.get("href")]


def addresses(world: Seeded) -> list[str]:
    """One address of every kind of page, and the pages of every version and of some examples."""
    versions = [str(manifest.ref) for manifest in world.store.versions()]
    rows = [f"/rows/{ref}?fate={fate}" for ref in versions for fate in ("member", "reject", "edit", "refused")]
    examples = [*world.dolly[:12], *world.synthetic[:3], *world.seeds[:2]]
    return [
        "/",
        "/versions",
        "/compare?a=support-bot@v1&b=support-bot@v2",
        "/d/support-bot@v2",
        "/graph/support-bot@v2",
        "/graph/support-bot@v2?from=support-bot@v1",
        "/card/support-bot@v2",
        "/hits/support-bot@v2",
        "/what-if/support-bot@v2",
        "/what-if/support-bot@v2?t.clear=0.3",
        "/sql/support-bot@v2?q=select * from examples",
        "/rows/support-bot@v2?fate=dropped&order=margin",
        "/rows/support-bot@v2?order=-ifd&text=topic",
        "/blast",
        "/blast?kind=source&name=seeds",
        f"/blast?kind=example&name={world.seeds[0]}",
        "/benchmarks",
        "/mixtures",
        "/runs",
        "/cost",
        f"/near/{world.dolly[1]}",
        *(f"/d/{ref}" for ref in versions),
        *rows,
        *(f"/e/{example}" for example in examples),
    ]


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


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("hostile"), hostile="".join(PAYLOADS))


def test_hostile_text_in_every_field_stays_text_on_every_page(hostile: Seeded) -> None:
    client = TestClient(create_app(hostile.store.root, allowed_hosts=HOSTS))
    told = 0
    for address in addresses(hostile):
        answer = client.get(address)
        assert answer.status_code in (200, 400, 404), address
        page = Page(answer.text)
        told += page.text.count("<script>alert(1)</script>")
        _is_clean(page, address)
    assert told > 1500


def _is_clean(page: Page, address: str) -> None:
    scripts = [f"/static/{name}.js" for name in ("web", "tables", "graph", "live")]
    for tag, attributes in page.tags:
        assert tag not in {"iframe", "object", "embed", "base", "img", "math", "template"}, (address, tag)
        assert not any(name.startswith("on") or name in ("style", "srcdoc", "formaction") for name in attributes), (
            address,
            attributes,
        )
        for name in ("href", "src", "action"):
            value = attributes.get(name)
            assert value is None or (value.startswith(("/", "#")) and not value.startswith("//")), (address, tag, value)
        if tag == "script":
            assert attributes == {"src": attributes["src"], "defer": None}, (address, attributes)
            assert attributes["src"] in scripts
        if tag == "textarea":
            assert attributes.get("id") == "sql", (address, attributes)
        if tag == "meta":
            assert "http-equiv" not in attributes


def test_hostile_addresses_stay_text_too(client: TestClient) -> None:
    for payload in PAYLOADS:
        for address, given in (
            ("/find", {"q": payload}),
            ("/rows/support-bot@v2", {"text": payload}),
            ("/rows/support-bot@v2", {"source": payload}),
            ("/rows/support-bot@v2", {"rule": payload}),
            ("/rows/support-bot@v2", {"in": payload}),
            ("/compare", {"a": payload, "b": payload}),
            ("/rows/support-bot@v2", {"order": payload}),
            ("/rows/support-bot@v2", {"score": payload, "low": "0"}),
            ("/rows/support-bot@v2", {f"min.{payload}": "0"}),
            ("/sql/support-bot@v2", {"q": payload}),
            ("/what-if/support-bot@v2", {f"t.{payload}": "0.1"}),
            ("/blast", {"kind": "source", "name": payload}),
            ("/hits/support-bot@v2", {"benchmark": payload, "rule": payload}),
            ("/datasets", {"q": payload}),
            (f"/e/{'0' * 32}", {"in": payload}),
        ):
            answer = client.get(address, params=given)
            assert answer.status_code in (200, 400, 404), (address, payload, answer.status_code)
            _is_clean(Page(answer.text), f"{address} {payload}")


def test_json_twins_are_valid_json_with_hostile_text(hostile: Seeded) -> None:
    client = TestClient(create_app(hostile.store.root, allowed_hosts=HOSTS))
    found = json.loads(client.get("/d/support-bot@v2.json").text)
    assert "<script>alert(1)</script>" in found["composition"][0]["source"]


def test_a_version_without_its_parts_shows_as_such_and_takes_nothing_else_down(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    manifest = world.store.describe(world.steps["clear"])
    path = tmp_path / "steps" / manifest.ref.stage / f"{manifest.ref.fingerprint}.json"
    path.write_text("{")
    (part,) = world.store.paths(world.strict["clear"], "verdicts/pool")
    part.unlink()
    client = TestClient(create_app(world.store.root, allowed_hosts=HOSTS))
    assert client.get("/").status_code == 200
    assert "Part of this version cannot be read" in client.get("/d/support-bot@v2").text
    assert client.get(f"/d/{world.steps['clear']}").status_code == 500
    assert client.get("/rows/support-bot@v2").status_code == 200


def test_a_store_that_grows_is_seen_without_a_restart(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    client = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    Store.open(tmp_path).tag("another/name", world.v1)
    assert "/d/another/name@v1" in Page(client.get("/").text).links
    assert client.get("/d/another/name@v1").status_code == 200
