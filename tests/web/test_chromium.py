"""The hostile store in a real browser: no script of a dataset runs, nothing is asked of another host, on any page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.reports.report import write_report
from tests.seeded import Seeded, seeded
from tests.web.driving import CHROMIUM, PAGES, chromium, serving

pytest.importorskip("playwright")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]

PAYLOAD = (
    "<script>document.title='pwned';fetch('http://evil.example/a')</script>"
    '"><img src=http://evil.example/b onerror="document.title=\'pwned\'">'
    "<svg/onload=\"document.title='pwned'\"><iframe srcdoc=\"<script>top.document.title='pwned'</script>\">"
    "<link rel=stylesheet href=http://evil.example/c.css><a href=\"javascript:document.title='pwned'\">x</a>"
    "\u202egnissem\u2066\u200b"
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"), hostile=PAYLOAD)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def test_no_script_of_a_dataset_runs_and_nothing_leaves(browser: Any, hostile: Seeded) -> None:
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    blanks = {
        "tag": "support-bot@v2", "other": "support-bot@v1", "score": "clear", "threshold": "clear", "moved": "0.3",
        "kept": hostile.dolly[1], "dropped": hostile.dolly[0], "generated": hostile.synthetic[0],
        "source": "seeds" + PAYLOAD.replace("&", "%26").replace("#", "%23"), "run": "none",
        "words": "Question about a topic: the answer explains the topic in nine plain words",
    }  # fmt: skip
    with serving(hostile.store.root) as address:
        for name, path in PAGES:
            if name == "run":
                continue  # the seeded store's run left no log
            answer = page.goto(address + path.format(**blanks))
            assert answer.status == 200, name
            assert page.title().endswith("Provender"), name
            assert page.locator("iframe, img").count() == 0, name
    assert {url.split("/")[2].rpartition(":")[0] for url in asked} == {"127.0.0.1"}


def test_what_turns_a_text_around_is_shown_as_its_number(browser: Any, hostile: Seeded) -> None:
    page = browser.new_page()
    with serving(hostile.store.root) as address:
        page.goto(f"{address}/e/{hostile.dolly[1]}")
        marks = page.locator(".turn .ctl")
        assert {marks.nth(i).inner_text() for i in range(3)} == {"U+202E", "U+2066", "U+200B"}
        assert "RIGHT-TO-LEFT OVERRIDE" in (marks.first.get_attribute("title") or "")


def test_the_report_opened_from_a_disk_runs_nothing(browser: Any, hostile: Seeded, tmp_path: Path) -> None:
    path = write_report(hostile.store, "support-bot", tmp_path / "report.html")
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert page.title() == "support-bot@v2"
    assert asked == [path.as_uri()]
