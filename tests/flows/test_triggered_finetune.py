"""A real server, two work pools with a worker each: curate on one triggers finetune on the other, and waits for it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from storage.runs import runs
from storage.store import Store
from tests.tasks.fakes_recipe import recipe

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parent.parent.parent
PROVENDER = [sys.executable, "-c", "from cli.main import main; main()"]

#: The pools of prefect.yaml with a deployment each: all that is registered again.
FEW = """
deployments:
  - {name: again, entrypoint: flows.ingest.ingest_source, work_pool: {name: cpu}}
  - {name: again, entrypoint: flows.publish.publish, work_pool: {name: gpu}}
"""


def call(environment: dict[str, str], *words: str) -> Any:
    """What `provender … --json` says; its last words where it fails."""
    done = subprocess.run([*PROVENDER, *words, "--json"], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of a server with our deployments and a worker on each pool, all by one command."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    environment = clean | {"PROVENDER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}
    environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    try:
        up = call(environment, "up", "--all", "--schedule", "collect/weekly")
        assert up["api"].startswith("http://127.0.0.1:"), "loopback only"
        assert set(up["workers"]) == {"cpu", "gpu"}
        (scheduled,) = up["schedules"]  # the server has made a run of it: SQLAlchemy 2.1 lets Prefect 3.8.8 make none
        sunday = re.fullmatch(r"collect/weekly: scheduled, 0 6 \* \* 0 UTC; next run (\S+) 06:00 UTC", scheduled)
        assert sunday is not None, scheduled
        assert date.fromisoformat(sunday[1]).isoweekday() == 7
        (tmp_path / "few.yaml").write_text(FEW, "utf-8")
        again = call(environment, "up", "--all", "--file", str(tmp_path / "few.yaml"))
        assert again == {**up, "schedules": []}, "what runs already is left alone"
        yield environment
    finally:
        assert call(environment, "down")["workers"] == ["cpu", "gpu"]
    assert not any(psutil.pid_exists(pid) for pid in up["workers"].values())


def curated(deployed: dict[str, str], folder: Path, **finetune: Any) -> Path:
    """Run curate through its deployment with this trigger; the store."""
    made = recipe(folder, finetune={"by": {"backend": "pretend", "max_steps": 3}, **finetune})
    given = {"recipe": made.model_dump(mode="json"), "store": str(folder / "store")}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    assert call(deployed, "trigger", "curate/ad-hoc", *words)["state"] == "Completed"
    return folder / "store"


def other_sites_are_refused(api: str, home: Path) -> None:
    """What other sites' pages, as they are or by a rebound name, and other users of the machine could send to the server."""
    evil, own = "http://evil.example", api.removesuffix("/api")
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    assert httpx.get(f"{api}/health").json() is True
    assert httpx.get(f"{api}/health", headers={"host": "evil.example"}).status_code == 403, "rebound name"
    assert httpx.get(f"{api}/admin/version").status_code == 401, "another user of this machine"
    noted = home / "prefect-server.json"
    assert noted.stat().st_mode & 0o077 == 0
    user, _, password = json.loads(noted.read_text())["auth"].partition(":")
    assert httpx.get(f"{api}/admin/version", auth=(user, password)).status_code == 200
    for headers in ({"origin": evil}, {"origin": evil, "host": "evil.example"}):
        assert httpx.post(f"{api}/deployments/filter", json={}, headers=headers).status_code == 403
        preflight = httpx.options(f"{api}/deployments/filter", headers={**headers, **asks})
        assert "access-control-allow-origin" not in preflight.headers
    unsigned = httpx.post(f"{api}/deployments/filter", json={}, headers={"origin": own}, auth=(user, password))
    assert (unsigned.status_code, unsigned.json()["detail"]) == (403, "Missing CSRF token.")
    events = api.replace("http", "ws") + "/events/in"
    with pytest.raises(InvalidStatus, match="403"), connect(events, origin=Origin(evil)):
        raise AssertionError("another site could publish events, and an event starts a training")
    with connect(events, origin=Origin(own), subprotocols=[Subprotocol("prefect")]) as socket:
        socket.send(json.dumps({"type": "auth", "token": f"{user}:wrong"}))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
    served = [c.laddr for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port_of(api)]
    assert [address.ip for address in served] == ["127.0.0.1"]


def flow_runs(home: Path, flow: str) -> int:
    """How many runs of a flow the server of this home knows."""
    noted = json.loads((home / "prefect-server.json").read_text())
    with httpx.Client(base_url=noted["api"] + "/", auth=tuple(noted["auth"].split(":")), timeout=60) as client:
        token = client.get("csrf-token", params={"client": "test"}).json()["token"]
        signed = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
        return client.post("flow_runs/count", json={"flows": {"name": {"any_": [flow]}}}, headers=signed).json()


def port_of(api: str) -> int:
    return httpx.URL(api).port or 80


def test_curate_on_one_pool_triggers_finetune_on_the_other(deployed: dict[str, str], tmp_path: Path) -> None:
    home = Path(deployed["PROVENDER_HOME"])
    other_sites_are_refused(json.loads((home / "prefect-server.json").read_text())["api"], home)
    refused = subprocess.run(
        [*PROVENDER, "trigger", "curate/weekly"], env=deployed, cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "there is no deployment 'curate/weekly'" in refused.stderr

    rows = ROOT / "recipes" / "data" / "target.jsonl"
    call(deployed, "select", str(rows), "--keep-examples", "3", "--store", str(tmp_path / "ad-hoc"))
    assert flow_runs(home, "select") == 1, "an ad-hoc verb found the running server"

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
