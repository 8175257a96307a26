"""`up --all`, `trigger` and `down` without a server; tests/flows/test_triggered_finetune.py has them with a real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from cli.deploying import pools_of
from cli.main import app
from cli.prefect_server import _note, connection, state_file
from cli.triggering import _parameters
from cli.workers import alive, stop_workers
from schemas.errors import EngineDown, UsageError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a server, whatever this machine has."""
    for name in [name for name in os.environ if name.startswith("PREFECT_API") or name == "PROVENDER_HOME"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def noted(home: Path, **workers: tuple[int, float]) -> None:
    entries = {pool: {"pid": pid, "started": started} for pool, (pid, started) in workers.items()}
    (home / "prefect-workers.json").write_text(json.dumps(entries))


def test_a_note_about_another_process_of_the_same_number_is_no_worker(own_home: Path) -> None:
    me = psutil.Process()
    noted(own_home, cpu=(me.pid, me.create_time() - 60), gpu=(2**22 - 1, 0.0))
    assert alive(own_home) == {}
    assert stop_workers(own_home) == [], "and is not stopped"
    (own_home / "prefect-workers.json").write_text("{torn")
    assert alive(own_home) == {}


def test_a_worker_is_stopped_with_what_it_started(own_home: Path) -> None:
    code = "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    code += "print(c.pid, flush=True); time.sleep(60)"
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    with worker.stdout as said:
        child = int(said.readline())
    noted(own_home, cpu=(worker.pid, psutil.Process(worker.pid).create_time()))
    assert alive(own_home) == {"cpu": worker.pid}
    assert stop_workers(own_home) == ["cpu"]
    worker.wait(5)
    assert not psutil.pid_exists(worker.pid)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert not (own_home / "prefect-workers.json").exists()


def test_every_deployment_has_a_pool_that_a_worker_is_started_for() -> None:
    assert pools_of(ROOT / "prefect.yaml") == ["cpu", "gpu"]


def test_what_needs_a_server_or_all_says_so() -> None:
    done = CliRunner().invoke(app, ["trigger", "refresh/nightly"])
    assert isinstance(done.exception, EngineDown)
    assert "provender up --all" in str(done.exception)
    done = CliRunner().invoke(app, ["up", "--schedule", "refresh/nightly"])
    assert isinstance(done.exception, UsageError)
    assert "give both" in str(done.exception)


def test_without_deployments_nothing_is_started(own_home: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["up", "--all", "--file", str(tmp_path / "prefect.yaml")])
    assert isinstance(done.exception, UsageError)
    assert "go to the folder that has one" in str(done.exception)
    assert not (own_home / "prefect-server.log").exists()


def test_parameters_are_yaml_and_a_mistake_is_named() -> None:
    assert _parameters(["store=demo", "overrides=[rank.method=ifd, a=1]", "rng_seed=3"]) == {
        "store": "demo",
        "overrides": ["rank.method=ifd", "a=1"],
        "rng_seed": 3,
    }
    with pytest.raises(UsageError, match="a parameter looks like store=demo/store"):
        _parameters(["store"])


def test_the_server_s_address_and_password_are_found_while_it_runs_and_only_then(own_home: Path) -> None:
    me = psutil.Process()
    state = {"pid": me.pid, "started": me.create_time(), "api": "http://127.0.0.1:4200/api", "auth": "provender:secret"}
    _note(state_file(own_home), json.dumps(state))
    assert state_file(own_home).stat().st_mode & 0o777 == 0o600
    wanted = {"PREFECT_API_URL": "http://127.0.0.1:4200/api", "PREFECT_API_AUTH_STRING": "provender:secret"}
    assert connection(own_home) == wanted
    without = {name: value for name, value in state.items() if name != "auth"}  # as an older release noted it
    _note(state_file(own_home), json.dumps(without))
    assert connection(own_home) == {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}
    for gone in (json.dumps({**state, "started": state["started"] - 60}), "{torn", "[]", "{}"):
        _note(state_file(own_home), gone)
        assert connection(own_home) == {}
