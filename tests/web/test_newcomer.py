"""Somebody who never saw this: with clicks alone, where did a kept and a dropped row come from, and why are they in or out?"""

from collections.abc import Generator
from typing import Any

import pytest

from tests.seeded import Seeded, seeded
from tests.web.driving import CHROMIUM, chromium, serving

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]
#: Clicks from the first page to the answer.
MOST_CLICKS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def page(world: Seeded) -> Generator[Any, None, None]:
    with serving(world.store.root) as address, chromium() as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.goto(address)
        yield opened


def clicked(page: Any, *names: str) -> str:
    """The text of the page that so many links lead to; the last one is the first row of a table."""
    page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/", 3)[2])
    assert len(names) + 1 <= MOST_CLICKS
    for name in names:
        page.get_by_role("link", name=name, exact=True).first.click()
    page.locator("table.rows a.open").first.click()
    return str(page.locator("main").inner_text())


def test_a_kept_row_says_which_example_of_which_file_it_was_and_what_it_passed(page: Any) -> None:
    told = clicked(page, "one that was kept", "dolly")
    assert "Kept: in support-bot@v2 at position" in told
    assert "Example " in told
    assert "of data/dolly.jsonl" in told
    assert "Kept at filter by clear: score" in told
    assert page.locator("#from").inner_text().startswith("Came from example ")


def test_a_dropped_row_says_which_rule_took_it_and_by_how_much(page: Any) -> None:
    told = clicked(page, "one that was dropped", "dolly")
    assert told.partition("\n")[0].lower().startswith("dropped")
    assert "of data/dolly.jsonl" in told
    assert "(margin " in told


def test_the_same_with_the_keyboard_alone(page: Any) -> None:
    """``g d`` to the datasets, ``j`` and Enter into the first, then its rows, ``j`` and Enter into a row."""
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/d/support-bot@v2")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Dropped":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/rows/support-bot@v2?fate=dropped*")
    page.keyboard.press("j")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    page.wait_for_url("**/e/*")
    assert "Dropped at" in page.locator("#why").inner_text()


def test_a_judges_call_is_a_page_and_an_unknown_one_says_so(page: Any, world: Seeded) -> None:
    call = next(iter(world.store.part(world.steps["synthetic"], "calls")["key"])).hex()
    root = "/".join(page.url.split("/")[:3])
    page.goto(f"{root}/call/{world.steps['synthetic']}?key={call}")
    told = page.locator("main").inner_text()
    assert "Come up with a series of tasks" in told
    assert "Invented text 0" in told
    page.goto(f"{root}/call/{world.steps['synthetic']}?key={'ab' * 16}")
    assert "made no call abababababab" in page.locator("main").inner_text()
    page.goto(f"{root}/call/{world.steps['synthetic']}?key=zz")
    assert "is no key of a call" in page.locator("main").inner_text()
