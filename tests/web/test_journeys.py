"""What a person does, in a real browser: from a number to its rows, why in, why out, what if, recall, review, keys."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from backends.protocols import Met
from storage.calls.cache import CallCache
from storage.calls.troubles import Place, Tally
from storage.packs.reviews import reviews
from storage.runs import RunLog
from tests.seeded import Seeded, seeded
from tests.web.driving import CHROMIUM, PAGES, chromium, serving

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=30_000)  # a page of a machine that is busy
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]

RUN = "20261121-010203-abcdef"

#: Where screenshots of each page go, as output of the build; ``PROVENDER_SCREENS`` names another folder.
SCREENS = Path(os.environ.get("PROVENDER_SCREENS") or Path(__file__).parents[2] / "build" / "screens")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    made = seeded(tmp_path_factory.mktemp("store"))
    log = RunLog(made.store.root, "support-bot", "curate", RUN)
    log.event({"kind": "start", "stage": "filter", "what": "clear", "ref": str(made.strict["clear"])})
    log.event({"kind": "done", "stage": "filter", "what": "clear", "ref": str(made.strict["clear"]), "seconds": 1.5,
               "counts": {"kept": 30, "rejected": 13}})  # fmt: skip
    log.end("completed", dataset=str(made.v2))
    cache = CallCache(made.store.root / "calls.sqlite")
    for model in ("judge", "a model of a long name that a server gave it, on a second endpoint"):
        tally = Tally(Place(RUN, RUN, "filter", str(made.strict["clear"])), model)
        for kind in get_args(Met):
            tally.met(kind, 12, seconds=3.5)
        cache.put(None, tally.settle())
    cache.close()
    return made


@pytest.fixture(scope="module")
def site(world: Seeded) -> Iterator[str]:
    with serving(world.store.root) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose console must stay silent."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    assert said == []
    context.close()


def test_a_newcomer_learns_why_one_row_is_in_and_one_is_out(page: Any, site: str, world: Seeded) -> None:
    """Front page, dataset, a rule's number, a dropped row, its sentence; back, a kept row, the prompt that made it."""
    page.goto(site)
    page.get_by_role("link", name="support-bot@v2").first.click()
    assert "27 examples from dolly and synthetic" in page.locator(".lead").inner_text()
    page.locator("#reasons + .scroll").get_by_role("link", name="13", exact=True).click()
    assert page.locator("tbody tr").count() == 13
    page.get_by_role("link", name=world.dolly[0][:12]).click()
    assert (
        page.locator("#why")
        .inner_text()
        .startswith("Dropped at filter by clear: confidence (low-confidence); score 0.2")
    )
    assert page.locator(".way .gauge svg").count() >= 1
    page.get_by_role("navigation", name="support-bot@v2").get_by_role("link", name="Rows").click()
    page.get_by_label("source").fill("synthetic")
    page.get_by_role("button", name="Show").click()
    page.locator("tbody a.open").first.click()
    assert page.locator("#why").inner_text().startswith("Kept: in support-bot@v2 at position")
    assert "Come up with a series of tasks" in page.locator("details[open] pre").first.inner_text()
    page.get_by_role("heading", name="Made from", exact=True).locator("+ ul a").first.click()
    assert "Shown to generate" in page.locator("ol.way").inner_text()


def test_every_band_and_bar_leads_to_its_rows(page: Any, site: str) -> None:
    page.goto(f"{site}/d/support-bot@v2")
    page.locator("svg.sankey a", has=page.locator(".fall.dropped")).nth(2).click()
    assert "fate=reject" in page.url
    assert page.locator("tbody tr").count() == 13
    page.goto(f"{site}/d/support-bot@v2")
    bars = page.locator("figure", has_text="clear: score").locator("a", has=page.locator(".bar.dropped"))
    counted = sum(
        int(re.search(r"(\d+) dropped", text).group(1)) for text in set(bars.locator("title").all_text_contents())
    )
    assert counted == 13
    bars.first.click()
    assert "min.score=" in page.url
    assert 1 <= page.locator("tbody tr").count() < 13


def test_sliders_tell_live_what_a_threshold_would_change(page: Any, site: str) -> None:
    page.goto(f"{site}/what-if/support-bot@v2")
    box = page.locator("figure.slider", has=page.locator("[data-key='clear']"))
    slider = box.locator("input[type=range]")
    slider.evaluate("(it) => { it.value = '0.3'; it.dispatchEvent(new Event('input', {bubbles: true})); }")
    expect(page.locator("#says")).to_contain_text("between 27 and 35")
    assert box.locator("[data-counts]").inner_text() == "keeps 38 instead of 30: 8 more, 0 fewer"
    assert "t.clear=0.3" in page.url
    page.get_by_role("button", name="Show rows").click()
    assert page.locator("section", has_text="Newly kept").locator("tbody tr").count() == 8
    assert "not run again" in page.locator("main").inner_text()


def test_a_bound_on_another_score_is_added_and_counted_live(page: Any, site: str) -> None:
    page.goto(f"{site}/what-if/support-bot@v2")
    page.get_by_label("bound on").select_option("ifd")
    page.get_by_role("button", name="Show rows").click()
    box = page.locator("figure.slider", has=page.locator("[data-bound='ifd']"))
    box.get_by_label("ifd from", exact=True).fill("0.5")
    expect(page.locator("#says")).to_contain_text("ifd from 0.5: 27 rows would be")
    assert "rows lie outside" in box.locator("[data-bound]").inner_text()
    assert "min.ifd=0.5" in page.url
    expect(page.locator("#parts [data-shift]").first).to_contain_text("pp")


def test_blast_radius_of_a_seed_ends_in_a_recall_list(page: Any, site: str, world: Seeded) -> None:
    page.goto(f"{site}/e/{world.seeds[0]}")
    page.get_by_role("link", name="Blast radius").last.click()
    assert "3 made from it" in page.locator(".lead").inner_text()
    with page.expect_download() as kept:
        page.get_by_role("link", name="CSV").click()
    lines = Path(kept.value.path()).read_text().splitlines()
    assert lines[0] == "id,source,license,made_by,direct,in"
    assert len(lines) == 1 + 4


def test_a_review_is_the_one_thing_that_is_written(page: Any, site: str, world: Seeded) -> None:
    page.goto(f"{site}/hits/support-bot@v2")
    assert page.locator("article.hit").count() == 3
    assert page.locator("article.hit mark").first.inner_text() == "Question"
    first = page.locator("article.hit").first
    first.get_by_label("reviewer").fill("ada")
    first.get_by_label("reason").fill("only the word is the same")
    first.get_by_role("button", name="A false alarm").click()
    assert "A false alarm, says ada" in page.locator("article.hit").first.inner_text()
    (said,) = reviews(world.store, world.v2)
    assert (said.verdict, said.who) == ("reject", "ada")
    page.get_by_role("link", name="Only those nobody has reviewed").click()
    assert page.locator("article.hit").count() == 2
    assert page.locator("article.hit").first.get_by_label("reviewer").input_value() == "ada"


def test_sql_is_one_select_and_a_mistake_is_said(page: Any, site: str) -> None:
    page.goto(f"{site}/sql/support-bot@v2")
    page.locator("#sql").fill("select source, count(*) as n from examples group by source order by n")
    page.locator("#sql").press("Control+Enter")
    page.wait_for_selector("tbody tr")
    assert page.locator("tbody").inner_text().split() == ["synthetic", "7", "dolly", "20"]
    page.locator("thead button").last.click()  # figures begin with the highest
    expect(page.locator("thead th").last).to_have_attribute("aria-sort", "descending")
    assert page.locator("tbody").inner_text().split() == ["dolly", "20", "synthetic", "7"]
    assert "sort1=-1" in page.url
    page.reload()
    assert page.locator("tbody").inner_text().split()[0] == "dolly"
    page.locator("#sql").fill("copy examples to '/tmp/x.csv'")
    page.get_by_role("button", name="Run").click()
    assert "only one SELECT" in page.get_by_role("alert").inner_text()


def test_keys_walk_through_rows_and_pages(page: Any, site: str) -> None:
    page.goto(f"{site}/rows/support-bot@v2")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("tbody tr").nth(1)
    assert "current" in (second.get_attribute("class") or "")
    page.keyboard.press("]")
    page.wait_for_url("**start=25**")
    assert page.locator("tbody tr").count() == 2
    page.keyboard.press("[")
    expect(page.locator("tbody tr")).to_have_count(25)
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/e/**")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("support-bot@v1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/d/support-bot@v1")
    page.keyboard.press("?")
    assert page.locator("dialog#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/runs")


def test_the_graph_moves_zooms_and_shows_a_line(page: Any, site: str) -> None:
    page.goto(f"{site}/graph/support-bot@v2")
    box = page.locator(".graph-box")
    before = box.locator("svg").get_attribute("viewBox")
    page.get_by_role("button", name="zoom in").click()
    zoomed = box.locator("svg").get_attribute("viewBox")
    assert zoomed != before
    at = box.bounding_box()
    page.mouse.move(at["x"] + 20, at["y"] + at["height"] - 12)
    page.mouse.down()
    page.mouse.move(at["x"] + 120, at["y"] + at["height"] - 40, steps=4)
    page.mouse.up()
    assert box.locator("svg").get_attribute("viewBox") != zoomed
    assert "/graph/" in page.url
    box.locator("a.node").first.focus()
    assert page.locator("svg .node.aside").count() >= 1
    box.focus()
    page.keyboard.press("0")
    page.locator("table.sortable tbody a.open").first.click()
    assert "/d/" in page.url


def test_an_example_can_be_copied_and_read_raw(page: Any, site: str, world: Seeded) -> None:
    page.goto(f"{site}/e/{world.dolly[2]}?in=support-bot@v2")
    assert page.locator("ins").first.inner_text().strip() == "(corrected)"
    page.get_by_role("button", name="Copy as JSON").click()
    expect(page.locator("[data-copy]")).to_have_text("Copied")
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["example"]["id"] == world.dolly[2]
    page.get_by_role("link", name="Raw").click()
    assert json.loads(page.locator("pre.raw").inner_text())["messages"][0]["role"] == "user"
    page.go_back()
    page.get_by_role("link", name="What reads like it").click()
    assert "Cosine of static word vectors" in page.locator("main").inner_text()


def test_a_search_goes_on_by_itself_until_all_was_seen(page: Any, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.questions.search.SECONDS", 0.0)
    page.goto(f"{site}/rows/support-bot@v2?text=topic 5")
    expect(page.locator("main")).to_contain_text("hold “topic 5”")
    assert page.locator("tbody tr").count() >= 1


def blanks(world: Seeded) -> dict[str, str]:
    return {
        "tag": "support-bot@v2", "other": "support-bot@v1", "score": "clear", "threshold": "clear", "moved": "0.3",
        "kept": world.dolly[1], "dropped": world.dolly[0], "generated": world.synthetic[0], "source": "seeds", "run": RUN,
        "words": "Question about a topic: the answer explains the topic in nine plain words",
    }  # fmt: skip


#: What every page must have, asked of the document itself: names, labels, headings, contrast, no page wider than its window.
CHECKS = (Path(__file__).parent / "readable.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_every_page_is_readable_by_all_at_any_width(
    browser: Any, site: str, world: Seeded, scheme: str, width: int
) -> None:
    """Names and labels, headings in order, contrast of AA, nothing wider than the window; a picture of each is kept."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    opened = context.new_page()
    wrong: dict[str, list[str]] = {}
    for name, address in PAGES:
        answer = opened.goto(site + address.format(**blanks(world)))
        assert answer.status == 200, address
        if found := opened.evaluate(CHECKS):
            wrong[name] = found
        opened.screenshot(path=str(SCREENS / f"{name}-{scheme}-{width}.png"))
    context.close()
    assert wrong == {}


def test_a_runs_page_says_what_its_calls_met_step_by_step(page: Any, site: str, world: Seeded) -> None:
    page.goto(f"{site}/runs/{RUN}")
    table = page.locator("#met ~ .scroll table")
    expect(page.locator("main")).to_contain_text("24 requests sent; 429: 24, 5xx: 24")
    page.get_by_role("button", name="Retry-After").click()  # every column sorts
    table.locator("a.id").first.click()
    assert page.url == f"{site}/d/{world.strict['clear']}"


def test_the_skip_link_and_the_focus_can_be_seen(page: Any, site: str) -> None:
    page.goto(f"{site}/d/support-bot@v2")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_everything_works_without_scripts(browser: Any, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(f"{site}/what-if/support-bot@v2")
    opened.get_by_label("threshold of low-confidence").fill("0.3")
    opened.get_by_role("button", name="Show rows").click()
    assert "between 27 and 35" in opened.locator("#says").inner_text()
    opened.goto(f"{site}/graph/support-bot@v2")
    assert opened.locator("svg.graph a").count() >= 10
    context.close()


def test_lines_pasted_into_the_search_keep_their_breaks_and_find_their_row(page: Any, site: str, world: Seeded) -> None:
    page.goto(site)
    page.keyboard.press("/")
    text = "Question 0 about topic 0?\nAnswer 0 explains the topic in nine plain words"
    paste = """(field, text) => { const data = new DataTransfer(); data.setData("text/plain", text);
      field.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})); }"""
    page.locator("#q").evaluate(paste, text)
    page.wait_for_url("**/pasted?**")
    assert page.locator("#text").input_value() == text
    first = page.locator("tbody tr").first.inner_text()
    assert "same words" in first
    assert world.dolly[0][:12] in first
    assert "low-confidence" in first
