"""A generation killed with SIGKILL at any moment goes on: a real server counts what is paid, the rows end up the same."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from storage.store import Store
from tests.fakes.openai_server import FakeServer, Faults

ROOT = Path(__file__).resolve().parents[2]
IN_FLIGHT = 4


SCRIPT = """
import sys
from pathlib import Path
from flows.generate import generate
from methods.generate.self_guide import SelfGuide
from schemas.recipe import BackendChoices
folder, url, in_flight = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
llm = {"backend": "openai", "base_url": url, "model": "fake", "revision": "r1", "concurrency": in_flight}
by = SelfGuide(examples=12, prompts_per_round=5, samples=2, output_lengths="off", noise=())
generate.fn(str(folder / "tasks.jsonl"), by, folder / "store", "made", BackendChoices.model_validate({"llm": llm}))
"""


def command(folder: Path, url: str) -> list[str]:
    """Self-guide on one task, five candidates a round, with the server as its model."""
    return [sys.executable, "-c", SCRIPT, str(folder), url, str(IN_FLIGHT)]


def seeds(folder: Path) -> Path:
    folder.mkdir()
    task = {"instruction": "Continue.", "instances": [{"input": f"word {k}", "output": f"{k}"} for k in range(3)]}
    (folder / "tasks.jsonl").write_text(json.dumps(task) + "\n", "utf-8")
    return folder


def rows(folder: Path) -> pl.DataFrame:
    store = Store.open(folder / "store")
    return store.pool(store.resolve("made")).select("id", "messages")


def started(folder: Path, url: str) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command(folder, url), cwd=ROOT, stdout=log, stderr=log)


def finished(folder: Path, url: str) -> bool:
    assert started(folder, url).wait(120) == 0, (folder / "log").read_text("utf-8")
    return True


def test_a_killed_generation_pays_again_only_for_what_was_in_flight(tmp_path):
    faults = Faults(latency=(0.01, 0.03))
    whole = seeds(tmp_path / "whole")
    with FakeServer(faults) as server:
        assert finished(whole, server.url)
        undisturbed = server.counters()["billed"]
    expected = rows(whole)
    assert expected.height == 12
    assert undisturbed > 30, "so that both kills come in the middle"

    killed = seeds(tmp_path / "killed")
    with FakeServer(faults) as server:
        for deadline in (7, 20):
            process = started(killed, server.url)
            end = time.monotonic() + 60
            while server.counters()["requests"] < deadline and process.poll() is None:
                assert time.monotonic() < end, "the run did not get there"
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        assert process.returncode == -signal.SIGKILL, "it was still at work"
        assert finished(killed, server.url)
        paid = server.counters()
        assert undisturbed <= paid["requests"] <= undisturbed + 2 * IN_FLIGHT
    assert rows(killed).equals(expected), "the same rows under the same ids"
    assert Store.open(killed / "store").verify() == []


if sys.platform == "win32":
    pytest.skip("there is no SIGKILL", allow_module_level=True)
