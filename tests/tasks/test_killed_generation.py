"""A generation killed with SIGKILL at any moment goes on: a real server counts what is paid, the rows end up the same."""

import json
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import polars as pl

from flows.generate import generate
from methods.generate.self_guide import SelfGuide
from schemas.recipe import BackendChoices
from storage.calls.troubles import counted
from storage.questions.run_troubles import MetOnTheWay, summed
from storage.store import Store
from tests.fakes.openai_server import FakeServer, Faults
from tests.forked import begun

IN_FLIGHT = 4


def made(folder: Path, url: str) -> None:
    """Self-guide on one task, five candidates a round, with the server as its model."""
    llm = {"backend": "openai", "base_url": url, "model": "fake", "revision": "r1", "concurrency": IN_FLIGHT}
    by = SelfGuide(examples=12, prompts_per_round=5, samples=2, output_lengths="off", noise=())
    generate.fn(str(folder / "tasks.jsonl"), by, folder / "store", "made", BackendChoices.model_validate({"llm": llm}))


def seeds(folder: Path) -> Path:
    folder.mkdir()
    task = {"instruction": "Continue.", "instances": [{"input": f"word {k}", "output": f"{k}"} for k in range(3)]}
    (folder / "tasks.jsonl").write_text(json.dumps(task) + "\n", "utf-8")
    return folder


def rows(folder: Path) -> pl.DataFrame:
    store = Store.open(folder / "store")
    return store.pool(store.resolve("made")).select("id", "messages")


def met_in(folder: Path) -> MetOnTheWay:
    """What the runs of a store met; ad-hoc runs have accounts of their own."""
    met = summed(counted(folder / "store" / "calls.sqlite") or ())
    assert all(line.step.startswith("generate@") for line in met.lines)
    return met


def started(folder: Path, url: str) -> BaseProcess:
    return begun(made, folder, url, said=folder / "log")


def finished(folder: Path, url: str) -> bool:
    process = started(folder, url)
    process.join(120)
    assert process.exitcode == 0, (folder / "log").read_text("utf-8")
    return True


def test_a_killed_generation_pays_again_only_for_what_was_in_flight(tmp_path):
    faults = Faults(latency=(0.01, 0.03), rates={"429": 0.2})
    whole = seeds(tmp_path / "whole")
    with FakeServer(faults) as server:
        assert finished(whole, server.url)
        undisturbed = server.counters()["billed"]
        sent, refused = server.counters()["requests"], server.counters()["injected"]["429"]
    met = met_in(whole)
    assert (met.total.requests, met.total.times["rate-limited"]) == (sent, refused), "each request, each 429"
    expected = rows(whole)
    assert expected.height == 12
    assert undisturbed > 30, "so that both kills come in the middle"

    killed = seeds(tmp_path / "killed")
    with FakeServer(faults) as server:
        for deadline in (7, 20):
            process = started(killed, server.url)
            end = time.monotonic() + 60
            while server.counters()["billed"] < deadline and process.is_alive():
                assert time.monotonic() < end, "the run did not get there"
                time.sleep(0.002)
            process.kill()
            process.join(10)
            assert process.exitcode == -signal.SIGKILL, "it was still at work"
        assert finished(killed, server.url)
        paid = server.counters()
        assert undisturbed <= paid["billed"] <= undisturbed + 2 * IN_FLIGHT
    told = met_in(killed)
    assert len(told.requests_by_run) == 3, "three runs"
    assert 0 <= paid["requests"] - told.total.requests <= 2 * (2 * IN_FLIGHT + 2), "a kill loses what was in flight"
    assert 0 <= paid["injected"]["429"] - told.total.times["rate-limited"] <= 2 * IN_FLIGHT
    assert {line.step for line in told.lines} == {line.step for line in met.lines}, "the same step under the same ref"
    assert rows(killed).equals(expected), "the same rows under the same ids"
    assert Store.open(killed / "store").verify() == []
