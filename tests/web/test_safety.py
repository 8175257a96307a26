"""Hostile text in every field and address, the one form that writes, files to take away, long and damaged things."""

import csv
import io
import json
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from schemas.lineage import Step
from storage.packs.reviews import hits, reviews
from storage.store import Store
from tests.seeded import Seeded, seeded
from tests.web.parsed import PAYLOADS, Page
from web.app import create_app
from web.highlight import highlighted
from web.pieces import colored, segments, visible

HOSTS = ("testserver",)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return TestClient(create_app(seeded(tmp_path_factory.mktemp("store")).store.root, allowed_hosts=HOSTS))


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
        "/call/support-bot@v2",
        "/compare?a=support-bot@v1&b=support-bot@v2&rows=common",
        f"/hits/{world.strict['clear']}",
        f"/rows/{world.steps['dedup']}?fate=reject&text=nothing of the kind",
        "/blast",
        "/blast?kind=source&name=seeds",
        f"/blast?kind=example&name={world.seeds[0]}",
        "/benchmarks",
        "/mixtures",
        "/runs",
        "/cost",
        "/health",
        "/receipt/support-bot@v2",
        f"/near/{world.dolly[1]}",
        *(f"/d/{ref}" for ref in versions),
        *rows,
        *(f"/e/{example}" for example in examples),
    ]


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
        for address, asked in (
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
            ("/call/support-bot@v2", {"model": payload}),
            ("/call/support-bot@v2", {"step": payload}),
            ("/call/support-bot@v2", {"state": payload}),
            ("/compare", {"a": "support-bot@v1", "b": "support-bot@v2", "rows": payload}),
            ("/hits/support-bot@v2", {"benchmark": payload, "rule": payload}),
            ("/datasets", {"q": payload}),
            ("/health", {"verify": payload}),
            (f"/receipt/{quote(payload)}", {}),
            (f"/e/{'0' * 32}", {"in": payload}),
        ):
            answer = client.get(address, params=asked)
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
    for address in ("/rows/support-bot@v2?fate=dropped", "/blast?kind=source&name=dolly", "/blast", "/cost", "/mixtures",
                    "/benchmarks", "/what-if/support-bot@v2", "/graph/support-bot@v2", "/runs"):  # fmt: skip
        assert client.get(address).status_code == 200, address
    dropped = client.get("/rows/support-bot@v2.json?fate=dropped").json()
    assert [one["place"] for one in dropped["damage"]] == [str(world.strict["clear"])]
    assert dropped["total"] == 26 - 13


def test_words_are_looked_for_in_the_newest_dataset(client: TestClient) -> None:
    found = client.get("/find", params={"q": "topic 3"}, follow_redirects=False).headers["location"]
    assert found == "/rows/support-bot@v2?text=topic+3"
    assert client.get("/find?q=support", follow_redirects=False).headers["location"] == "/d/support-bot@v2"
    assert client.get("/find?q=zzz", follow_redirects=False).headers["location"] == "/datasets?q=zzz"


def test_a_store_that_grows_is_seen_without_a_restart(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    client = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    Store.open(tmp_path).tag("another/name", world.v1)
    assert "/d/another/name@v1" in Page(client.get("/").text).links
    assert client.get("/d/another/name@v1").status_code == 200


def posted(client: TestClient, world: Seeded, csrf: str, **headers: str) -> int:
    hit = hits(world.store, world.v2)[0]
    form = {
        "csrf": csrf,
        "step": hit.step,
        "key": hit.key,
        "verdict": "accept",
        "who": "ada",
        "back": "//evil.example/",
    }
    answer = client.post("/review", data=form, headers=headers, follow_redirects=False)
    if answer.status_code == 303:
        assert answer.headers["location"].startswith("/benchmarks#")
    return answer.status_code


def test_a_review_is_heard_only_from_a_form_of_this_site(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    client = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    page = Page(client.get("/hits/support-bot@v2").text)
    csrf = next(a["value"] or "" for tag, a in page.tags if tag == "input" and a.get("name") == "csrf")
    own = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert posted(client, world, csrf) == 403  # no origin
    assert posted(client, world, csrf, origin="http://evil.example") == 403
    assert posted(client, world, csrf, origin="null") == 403
    assert posted(client, world, csrf, **{**own, "sec-fetch-site": "cross-site"}) == 403
    assert posted(client, world, "guessed", **own) == 403
    other = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    assert posted(other, world, csrf, **own) == 403  # of another start of the server
    assert reviews(world.store, world.v2) == []
    assert posted(client, world, csrf, **own) == 303
    assert [one.who for one in reviews(world.store, world.v2)] == ["ada"]
    assert client.post("/review", content=b"x" * 20_000, headers=own).status_code == 413
    assert client.post("/hits/support-bot@v2", headers=own).status_code == 405


def test_rows_can_be_taken_away_as_files_without_formulas(tmp_path: Path) -> None:
    seeded(tmp_path, hostile="\n=HYPERLINK(1)")
    client = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    told = client.get("/rows/support-bot@v2.csv?order=-clear").text
    lines = list(csv.DictReader(io.StringIO(told, newline="")))
    assert len(lines) == 27
    assert [float(line["clear"]) for line in lines] == sorted((float(line["clear"]) for line in lines), reverse=True)
    assert not any((cell or "").startswith(("=", "+", "@")) for line in lines for cell in line.values())
    dropped = client.get("/rows/support-bot@v2.jsonl?fate=dropped").text.splitlines()
    assert len(dropped) == 26
    assert json.loads(dropped[0])["rule"].startswith("repeats-another")
    recall = client.get("/blast.csv", params={"kind": "source", "name": "seeds\n=HYPERLINK(1)"})
    assert recall.headers["content-disposition"] == 'attachment; filename="recall.csv"'
    assert len(list(csv.DictReader(io.StringIO(recall.text, newline="")))) == 16


def test_a_long_turn_is_cut_with_a_way_to_the_whole(tmp_path: Path) -> None:
    world = seeded(tmp_path, hostile=" " + "long " * 4000 + "END")
    client = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    page = client.get(f"/e/{world.dolly[1]}").text
    assert "Show all: 14," in page
    assert len(page) < 200_000
    assert "END" in client.get(f"/e/{world.dolly[1]}?full=1").text


def test_what_cannot_be_seen_is_shown_and_code_is_colored() -> None:
    assert str(visible("a\u202eb<")) == 'a<span class="ctl" title="RIGHT-TO-LEFT OVERRIDE">U+202E</span>b&lt;'
    assert str(visible("\u0645\u200c\u0646 \U0001f468\u200d\U0001f469")).count("ctl") == 0  # joiners that scripts need
    (piece,) = segments("```py\nx = 1  # <b>\n```")
    told = str(colored(piece))
    assert '<span class="tn">1</span>' in told
    assert '<span class="tc"># &lt;b&gt;</span>' in told
    assert [p.kind for p in segments("def f(x):\n    return x\n\nprint(f(1))")] == ["code"]
    assert [p.kind for p in segments("I return the book.\nThen I go home.\nIt is late.")] == ["text"]


@given(st.text(max_size=200), st.sampled_from(["", "py", "sql", "js", "evil"]))
def test_colors_lose_no_character_of_the_code(code: str, language: str) -> None:
    assert "".join(text for _, text in highlighted(code, language)) == code


def test_a_version_of_a_thousand_shards_is_a_page_of_few_boxes(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    for i in range(40):
        draft = world.store.draft(
            Step(stage="rank", method={"method": "ifd", "shard": i}, inputs=(("pool", world.steps["gather"]),))
        )
        draft.keep_members(world.store.describe(world.steps["gather"]))
        draft.put("scores", pl.DataFrame({"score": [float(i)] * 50}))
        world.store.commit(draft)
    client = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    page = client.get(f"/graph/{world.steps['gather']}?down=1").text
    assert "40 × rank ifd" in page
    assert len(client.get(f"/graph/{world.steps['gather']}.json?down=1").json()["nodes"]) < 8


def test_a_tag_whose_version_is_gone_says_so_and_the_others_stand(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    manifest = world.store.describe(world.v1)
    (tmp_path / "steps" / manifest.ref.stage / f"{manifest.ref.fingerprint}.json").unlink()
    client = TestClient(create_app(tmp_path, allowed_hosts=HOSTS))
    gone = client.get("/d/support-bot@v1")
    assert gone.status_code == 404
    assert (
        f"support-bot@v1 stands for {manifest.ref}, whose manifest is no longer in this store" in Page(gone.text).text
    )
    assert "<code>provender verify</code>" in gone.text
    assert client.get("/d/support-bot@v2").status_code == 200
    assert client.get("/rows/support-bot@v1").status_code == 404
