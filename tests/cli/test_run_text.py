"""`provender runs RUN` and `cache stats`: what was spent and what the calls met, after a real run that was killed once."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backends.llm.openai import OpenAI
from backends.protocols import Request
from cli.main import app
from schemas.errors import MissingDataset
from storage.calls.cached_llm import CachedLLM, CallCache
from storage.runs import RunLog
from storage.store import Store
from tests.fakes.openai_server import FakeServer, Faults

FIRST, SECOND = "20261121-010000-aaaaaa", "20261121-020000-bbbbbb"


def said(store: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--store", str(store)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def calls(cache: CallCache, server: FakeServer, run: str, count: int) -> None:
    engine = OpenAI(model="fake", base_url=server.url).open()
    budget = cache.budget(FIRST, "filter", max_tokens=100_000)
    CachedLLM(engine, cache, budget, run=run, step="filter@00000000000000aa").generate(
        [Request.ask(f"row {i}") for i in range(count)]
    )
    engine.close()


def test_a_run_says_what_it_spent_and_what_its_calls_met(tmp_path: Path) -> None:
    Store.open(tmp_path)
    cache = CallCache(tmp_path / "calls.sqlite")
    with FakeServer(Faults(rates={"429": 0.3, "500": 0.1}, latency=(0.001, 0.002))) as server:
        RunLog(tmp_path, "demo", "curate", FIRST).end("crashed", error="killed")
        calls(cache, server, FIRST, 20)
        log = RunLog(tmp_path, "demo", "curate", SECOND, account=FIRST, ceilings={"tokens": 100_000.0})
        calls(cache, server, SECOND, 60)
        log.end("completed")
        oracle = server.counters()
    cache.close()
    injected = oracle["injected"]

    told = said(tmp_path, "runs", SECOND)
    assert f"met on the way: {oracle['requests']} requests sent; 429: {injected['429']}, 5xx: {injected['500']}" in told
    assert "by this run, the others by the runs it resumes" in told
    assert "100,000" in told, "the limit"
    assert "60 calls paid" in told
    line = next(one for one in told.splitlines() if one.startswith("filter@00000000000000aa"))
    assert line.split()[1:5] == ["fake", str(oracle["requests"]), str(injected["429"]), str(injected["500"])]
    found = json.loads(said(tmp_path, "runs", SECOND, "--json"))
    assert found["run_id"] == SECOND
    assert found["spending"]["met"]["total"]["times"]["rate-limited"] == injected["429"]

    stats = said(tmp_path, "cache", "stats")
    line = stats[stats.index("met on the way, all runs together") :].splitlines()[3]
    assert line.split()[:4] == ["fake", str(oracle["requests"]), str(injected["429"]), str(injected["500"])]
    figures = json.loads(said(tmp_path, "cache", "stats", "--json"))
    assert figures["met"]["fake"]["request"]["times"] == oracle["requests"]


def test_a_run_that_asked_nothing_says_so_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    Store.open(tmp_path)
    RunLog(tmp_path, "demo", "curate", FIRST).end("completed")
    told = said(tmp_path, "runs", FIRST)
    assert "not recorded; the ledger has no entry for this run" in told
    assert "met on the way: not recorded" in told
    assert "met on the way" not in said(tmp_path, "cache", "stats")
    with pytest.raises(MissingDataset, match="0 runs begin with '1999'"):
        said(tmp_path, "runs", "1999")
