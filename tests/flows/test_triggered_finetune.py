"""A real server, two work pools with a worker each: curate on one triggers finetune on the other, and waits for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.runs import runs
from storage.store import Store
from tests.tasks.fakes_recipe import recipe

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parent.parent.parent
PROVENDER = [sys.executable, "-c", "from cli.main import main; main()"]
RUN = """
import json, sys
from prefect.deployments import run_deployment
run = run_deployment("curate/ad-hoc", parameters=json.load(open(sys.argv[1])), timeout=240)
print(run.state.type.value)
"""


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of a server with our deployments and a worker on each pool."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    environment = clean | {"PROVENDER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}

    def call(*words: str) -> str:
        return subprocess.run(words, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    environment["PREFECT_API_URL"] = json.loads(call(*PROVENDER, "up", "--json"))["api"]
    environment["PREFECT_HOME"] = str(tmp_path / "home" / "prefect")
    assert environment["PREFECT_API_URL"].startswith("http://127.0.0.1:"), "loopback only"
    workers = []
    try:
        call(*PROVENDER, "deploy")
        for pool in ("cpu", "gpu"):
            words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
            with (tmp_path / f"{pool}.log").open("wb") as log:
                worker = subprocess.Popen(
                    words, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
                )
            workers.append(worker)
        yield environment
    finally:
        for worker in workers:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        call(*PROVENDER, "down")


def curated(deployed: dict[str, str], folder: Path, **finetune: Any) -> Path:
    """Run curate through its deployment with this trigger; the store."""
    made = recipe(folder, finetune={"by": {"backend": "pretend", "max_steps": 3}, **finetune})
    parameters = folder / "parameters.json"
    parameters.write_text(json.dumps({"recipe": made.model_dump(mode="json"), "store": str(folder / "store")}), "utf-8")
    words = [sys.executable, "-c", RUN, str(parameters)]
    done = subprocess.run(words, env=deployed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "COMPLETED", done.stderr[-2000:]
    return folder / "store"


def test_curate_on_one_pool_triggers_finetune_on_the_other(deployed: dict[str, str], tmp_path: Path) -> None:
    store = curated(deployed, tmp_path, trigger="deployment", wait=True)
    assert {(r.what, r.status) for r in runs(store)} == {("curate", "completed"), ("finetune", "completed")}
    assert len({r.pid for r in runs(store)}) == 2, "two workers, two processes"
    opened = Store.open(store)
    dataset = opened.resolve("demo")
    trained = [m for m in opened.downstream(dataset) if m.step.stage == "finetune"]
    assert trained[0].summary["trained_on"]["digest"] == opened.describe(dataset).digest

    # The same server, another store: curate only emits an event, and the automation of prefect.yaml starts the training.
    other = tmp_path / "event"
    other.mkdir()
    heard = curated(deployed, other, trigger="event")
    deadline = time.monotonic() + 120
    while {(r.what, r.status) for r in runs(heard)} != {("curate", "completed"), ("finetune", "completed")}:
        assert time.monotonic() < deadline, [(r.what, r.status) for r in runs(heard)]
        time.sleep(0.5)
    opened = Store.open(heard)
    (trained,) = [m for m in opened.downstream(opened.resolve("demo")) if m.step.stage == "finetune"]
    assert trained.summary["trained_on"]["dataset"] == str(opened.resolve("demo"))
