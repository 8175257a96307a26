"""`provender site`: plain files, relative links, nothing that needs a server, and hostile text that stays text."""

import re
from pathlib import Path

import pytest

from schemas.errors import MissingDataset, UsageError
from tests.seeded import seeded
from tests.web.driving import CHROMIUM, chromium
from tests.web.parsed import PAYLOADS, Page
from web.publish import key_of, publish_site

LINK = re.compile(r"(static/[a-z]+\.(css|js|svg)|[a-z-]+[A-Za-z0-9.-]*\.html)?(#[\w-]*)?")
PWN = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = seeded(tmp_path_factory.mktemp("store"), hostile="".join(PAYLOADS))
    out = tmp_path_factory.mktemp("out") / "site"
    made = publish_site(world.store.root, "support-bot", out, examples=30)
    assert made.index == out / "index.html"
    assert made.left_out == 0
    assert made.files == len([path for path in out.rglob("*") if path.is_file() and path.name != ".provender-site"])
    return out


def test_every_link_is_a_file_beside_it_or_dead(written: Path) -> None:
    names = {path.name for path in written.glob("*.html")}
    assert "index.html" in names
    linked = set()
    for path in written.glob("*.html"):
        page = Page(path.read_text(encoding="utf-8"))
        for tag, attributes in page.tags:
            for name in ("href", "src", "action"):
                value = attributes.get(name)
                if value is None:
                    continue
                assert re.fullmatch(r"(static/[a-z]+\.(css|js|svg)|[a-z-]+[A-Za-z0-9.-]*\.html)?(#[\w-]*)?", value), (
                    path,
                    tag,
                    value,
                )
                file = value.partition("#")[0]
                assert not file or (written / file).is_file(), (path.name, value)
                linked.add(file)
    assert {name for name in linked if name.endswith(".html")} >= {"index.html"}
    assert len(linked) > 60


def test_numbers_of_the_overview_lead_to_rows_and_rows_to_examples(written: Path) -> None:
    index = Page((written / "index.html").read_text(encoding="utf-8"))
    rows = [link for link in index.links if link.startswith("rows-")]
    assert rows
    page = Page((written / rows[0].partition("#")[0]).read_text(encoding="utf-8"))
    examples = [link for link in page.links if link.startswith("e-")]
    assert examples
    story = (written / examples[0]).read_text(encoding="utf-8")
    assert "Its way" in story


def test_every_count_of_the_overview_leads_to_its_rows(written: Path) -> None:
    """Bars of histograms lead to rows on a server alone; figures and tables do in the files too."""
    text = (written / "index.html").read_text(encoding="utf-8")
    for start, end in (
        ('<dl class="facts">', "</dl>"),
        ('<h2 id="reasons">', '<h2 id="samples">'),
        ("<tbody>", "</tbody>"),
    ):
        part = text[text.index(start) : text.index(end, text.index(start))]
        assert part.count("<a ") >= 3
        assert "data-absent" not in part, part[part.index("data-absent") - 40 :][:200]


def test_no_script_of_a_server_is_left_and_no_place_of_this_machine(written: Path, tmp_path: Path) -> None:
    for path in written.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "live.js" not in text
        assert text.count('src="static/web.js"') == 1
        assert str(written.parent.parent) not in text


def test_hostile_text_stays_text_and_the_page_brings_its_own_policy(written: Path) -> None:
    for path in written.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert 'http-equiv="content-security-policy" content="default-src \'none\'' in text
        page = Page(text)
        for tag, attributes in page.tags:
            assert tag not in {"iframe", "img", "object", "embed", "base", "form", "math", "template"}, (path.name, tag)
            assert not any(name.startswith("on") or name in ("style", "srcdoc", "formaction") for name in attributes)
        assert [a.get("content", "")[:11] for tag, a in page.tags if tag == "meta" and "http-equiv" in a] == [
            "default-src"
        ]


def test_a_site_is_written_again_over_itself_and_never_over_other_files(written: Path, tmp_path: Path) -> None:
    world = seeded(tmp_path / "store")
    publish_site(world.store.root, "support-bot@v1", written, examples=2)
    assert (written / ".provender-site").read_text() == "support-bot@v1\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        publish_site(world.store.root, "support-bot", tmp_path / "mine")
    with pytest.raises(MissingDataset):
        publish_site(world.store.root, "nothing", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_receipt_of_every_version_is_there_verified_and_linked(written: Path, tmp_path: Path) -> None:
    world = seeded(tmp_path / "store")
    made = publish_site(world.store.root, "support-bot", tmp_path / "site", examples=2)
    tag = f"support-bot@v{world.store.tag_history('support-bot')[-1].number}"
    first = Page(made.index.read_text(encoding="utf-8"))
    own = f"receipt-{tag.replace('@', '-')}.html"
    assert own in first.links
    for manifest in world.store.upstream(world.store.resolve(tag)):
        about = tag if manifest.ref == world.store.resolve(tag) else str(manifest.ref)
        text = (tmp_path / "site" / f"receipt-{about.replace('@', '-')}.html").read_text(encoding="utf-8")
        assert "Every byte of its files was read and hashed for this page, 20" in text
        assert manifest.digest in text
        assert manifest.seal in text
        for parts in manifest.parts.values():
            assert all(part.sha256 in text for part in parts)
        for _, origin in manifest.step.inputs:
            assert f'href="receipt-{str(origin).replace("@", "-")}.html">receipt</a>' in text
        assert str(world.store.root) not in text
        assert "verify=1" not in text, "there is nobody to ask"
    quick = publish_site(world.store.root, "support-bot", tmp_path / "quick", examples=2, verify=False)
    assert "bytes not read" in (quick.index.parent / own).read_text(encoding="utf-8")


def test_a_receipt_names_the_file_that_is_not_what_it_was(tmp_path: Path) -> None:
    world = seeded(tmp_path / "store")
    ref = world.store.resolve("support-bot")
    part = world.store.describe(ref).parts["train"][0]
    path = world.store.disk.object_path(part.sha256)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    publish_site(world.store.root, "support-bot", tmp_path / "site", examples=2)
    (receipt,) = (tmp_path / "site").glob("receipt-support-bot-v*.html")
    text = receipt.read_text(encoding="utf-8")
    assert '<span class="pill failed">damaged</span>' in text
    assert str(world.store.root) not in text


def test_an_address_has_one_key_whatever_does_not_matter() -> None:
    assert key_of("/rows/a@v1?in=a%40v1&start=0&fate=reject", "a@v1") == key_of("/rows/a@v1?fate=reject", "a@v1")
    assert key_of("/e/12?in=b%40v1", "a@v1") != key_of("/e/12", "a@v1")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_site_opens_from_a_disk_with_its_style_and_nothing_runs(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    world = seeded(
        tmp_path / "store",
        hostile="<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>",
    )
    made = publish_site(world.store.root, "support-bot", tmp_path / "site", examples=5)
    asked: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(made.index.as_uri())
        assert page.evaluate("getComputedStyle(document.body).fontVariantNumeric") == "tabular-nums"
        page.locator("a[href^=rows]").first.click()
        page.locator("a.open").first.click()
        assert "pwned" not in page.title()
        for key in ("/", "?", "Escape", "g", "r", "j"):
            page.keyboard.press(key)
        page.get_by_role("link", name="Provender").click()
        assert page.url.endswith("index.html")
        assert page.locator("nav a[data-absent]:visible").count() == 0
        page.locator("table.sortable button.sort").first.click()
        page.locator(".actions a", has_text="Receipt").click()
        assert page.locator("h1 .pill.passed").text_content() == "verified"
        assert page.locator("#files + .scroll tbody tr").count() > 0
        page.locator(".actions a", has_text="The version").click()
        assert page.url.endswith("index.html")
        assert wrong == []
    assert all(url.startswith("file://") for url in asked)
