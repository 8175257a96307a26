"""What a run spent of its budget, how its calls went, what it resumed, and whether it still lives."""

import os
import time
from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

from schemas.identity import digest16
from storage.calls.budget import Budget, Ceilings
from storage.calls.cache import CallCache
from storage.calls.troubles import Place, Tally
from storage.questions.progress import run_page
from storage.runs import RunLog
from storage.store import Store
from tests.seeding import Builder
from web.app import create_app

FIRST, SECOND = "20261121-010000-aaaaaa", "20261121-020000-bbbbbb"


def asked(store: Store, failures: list[str | None]) -> str:
    """A filter whose calls failed like this; the first came from the cache, the others took two requests each."""
    build = Builder(store, "")
    pool = build.ingest("four", [("Question?", "Answer")])
    draft = build.draft("filter", {"method": "judge"}, {"pool": pool})
    draft.keep_members(store.describe(pool))
    count = len(failures)
    draft.put(
        "calls",
        pl.DataFrame(
            {
                "key": [digest16(f"asked {i}".encode()) for i in range(count)],
                "kind": ["generate"] * count,
                "model": ["big"] * count,
                "request": ["{}"] * count,
                "reply": ["yes"] * count,
                "finish_reason": ["stop"] * count,
                "prompt_tokens": [10] * count,
                "completion_tokens": [1] * count,
                "cost_usd": [0.01] * count,
                "attempts": [2] * count,
                "cached": [True] + [False] * (count - 1),
                "failure": failures,
            },
            schema_overrides={"attempts": pl.Int32, "failure": pl.String},
        ),
    )
    return str(store.commit(draft).ref)


def spend(root: Path, run: str, *, tokens: int) -> None:
    """Books one settled call, and leaves another under way."""
    cache = CallCache(root / "calls.sqlite")
    budget = Budget(cache.path, run, "filter", Ceilings(tokens=1000))
    number = budget.reserve(tokens, 0.5)
    assert isinstance(number, int)
    cache.put(None, budget.settlement([number], tokens - 10, 10, 0.5))
    cache.flush()
    assert isinstance(budget.reserve(40, 0.1), int)
    budget.close()
    cache.close()


def test_a_resumed_run_shows_what_both_spent_of_the_limit_and_how_its_calls_went(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    ref = asked(store, [None, "refused-by-server", "<b>odd</b>", "refused-by-server"])
    RunLog(tmp_path, "demo", "curate", FIRST).end("stopped", error="at the ceiling")
    time.sleep(0.005)
    limits = {"tokens": 1000.0}
    log = RunLog(tmp_path, "demo", "curate", SECOND, account=FIRST, ceilings=limits)
    log.event({"kind": "start", "stage": "filter", "what": "judge", "ref": ref})
    log.event({"kind": "done", "stage": "filter", "what": "judge", "ref": ref, "seconds": 0.5})
    spend(tmp_path, FIRST, tokens=250)
    log.end("completed")

    page = run_page(store, SECOND)
    assert page.resumed_from == FIRST
    account, calls = page.spending.account, page.spending.calls
    assert account is not None
    assert calls is not None
    tokens = account.meters[0]
    assert (tokens.unit, tokens.used, tokens.in_flight, tokens.ceiling) == ("tokens", 250, 40, 1000)
    assert (account.meters[1].used, account.meters[1].ceiling) == (0.5, None)
    assert (calls.calls, calls.cached, calls.retries) == (4, 1, 3)
    assert calls.failures == (("refused-by-server", 2), ("<b>odd</b>", 1))

    text = (
        TestClient(create_app(tmp_path, allowed_hosts=("testserver",), patience_seconds=None))
        .get(f"/runs/{SECOND}")
        .text
    )
    assert "25.0% of the limit spent" in text
    assert f'resumed from <a href="/runs/{FIRST}">' in text
    assert "40 more reserved by calls that never came back" in text
    assert "1 call was paid, those of the runs it resumes included" in text
    assert "1 of 4 calls (25.0 %)" in text
    assert "&lt;b&gt;odd" in text
    assert "<b>odd" not in text


def test_what_was_not_recorded_is_said_not_invented(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    log = RunLog(tmp_path, "demo", "curate", FIRST)
    log.event(
        {"kind": "done", "stage": "filter", "what": "judge", "ref": "filter@0000000000000002"}
    )  # of another store
    log.end("completed")
    page = run_page(store, FIRST)
    assert (page.spending.account, page.spending.calls, page.spending.ceilings_noted) == (None, None, False)
    text = (
        TestClient(create_app(tmp_path, allowed_hosts=("testserver",), patience_seconds=None))
        .get(f"/runs/{FIRST}")
        .text
    )
    assert "Spending: not recorded" in text
    assert "Cache hits, retries and failed calls: not recorded" in text
    assert "Errors, repeats and waits: not recorded" in text


def noted(root: Path, account: str, run: str, step: str, **times: int) -> None:
    """What a model met, as its calls would leave it; a wait of half a second for each rate limit."""
    cache = CallCache(root / "calls.sqlite")
    tally = Tally(Place(account, run, "filter", step), "<b>big</b>")
    for kind, count in times.items():
        tally.met(kind.replace("_", "-"), count)  # type: ignore[arg-type]
    if limits := times.get("rate_limited"):
        tally.met("backoff", limits, seconds=0.5 * limits)
    cache.put(None, tally.settle())
    cache.close()


def test_what_a_run_and_the_one_it_resumes_met_adds_up_by_step_and_model(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    ref = asked(store, [None])
    RunLog(tmp_path, "demo", "curate", FIRST).end("crashed", error="killed")
    noted(tmp_path, FIRST, FIRST, ref, request=70, rate_limited=4)
    time.sleep(0.005)
    log = RunLog(tmp_path, "demo", "curate", SECOND, account=FIRST)
    log.event({"kind": "done", "stage": "filter", "what": "judge", "ref": ref, "seconds": 0.5})
    noted(tmp_path, FIRST, SECOND, ref, request=30, rate_limited=1, connection=2)
    noted(tmp_path, FIRST, SECOND, "filter@0000000000000002", request=10, repair=3)
    noted(tmp_path, "another", "another", ref, request=999)
    log.end("completed")

    met = run_page(store, SECOND).spending.met
    assert met is not None
    lines = {line.step: line for line in met.lines}
    assert (lines[ref].requests, lines[ref].times["rate-limited"], lines[ref].times["connection"]) == (100, 5, 2)
    assert lines[ref].waited == 2.5
    assert met.total.requests == 110
    assert met.requests_by_run == {FIRST: 70, SECOND: 40}
    assert met.says == "110 requests sent; 429: 5, connection lost: 2, repaired: 3"

    client = TestClient(create_app(tmp_path, allowed_hosts=("testserver",), patience_seconds=None))
    text = client.get(f"/runs/{SECOND}").text
    assert "40 of the requests by this run, the others by the runs it resumes" in text
    assert "&lt;b&gt;big" in text
    assert f'<a class="id" href="/d/{ref}">{ref}</a></td><td class="tight">&lt;b&gt;' in text, "a step that is there"
    assert '<td class="tight">filter@0000000000000002</td>' in text, "one that was never finished leads nowhere"
    assert "2.5 s" in text
    twin = client.get(f"/runs/{SECOND}.json").json()
    assert twin["spending"]["met"]["total"]["times"]["rate-limited"] == 5


@pytest.mark.parametrize(("ago", "stale"), [(30, False), (7200, True)])
def test_a_run_that_works_in_silence_is_stale(tmp_path: Path, ago: int, stale: bool) -> None:
    store = Store.open(tmp_path)
    log = RunLog(tmp_path, "demo", "curate", FIRST)
    then = time.time() - ago
    os.utime(log.folder / "run.json", (then, then))
    assert (run_page(store, FIRST).quiet_seconds is not None) is stale
