"""The Prefect server that a run without one starts: guarded while the run goes on, and gone with it, also after SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from flows.curate import curate
from tasks import own_server
from tasks.own_server import TEMPORARY, served, standing_server
from tests.fakes.openai_server import FakeServer, Faults
from tests.forked import begun, provender

ROOT = Path(__file__).resolve().parent.parent.parent
GUARDED = ROOT / "tasks" / "prefect_guarded.py"

#: What a user's environment could say that would open it.
OPEN = {
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "true",
    "PREFECT_SERVER_API_AUTH_STRING": "",
}


def server_of(run: int) -> psutil.Process:
    """The server that a process started."""
    (found,) = [p for p in psutil.Process(run).children(recursive=True) if str(GUARDED) in p.cmdline()]
    return found


@pytest.mark.flow
@pytest.mark.timeout(300)
def test_the_server_of_one_run_refuses_others_and_ends_with_a_killed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run in the midst of its calls: asked under a rebound name, by another site, without the password, then killed."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    rows = [{"instruction": f"Describe thing number {i}.", "output": f"It is thing number {i}."} for i in range(200)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with FakeServer(Faults(latency=(1.0, 1.0))) as teacher:
        (tmp_path / "recipe.yaml").write_text(
            f"name: slow\nsources: {{rows: {{path: {tmp_path / 'rows.jsonl'}, license: MIT}}}}\nfilter: {{method: clear}}\n"
            f"backends: {{llm: {{backend: openai, model: fake, base_url: '{teacher.url}', concurrency: 2}}, "
            "embed: {backend: hashing}}\n"
        )
        words = ["run", str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store"), "--no-report"]
        home = {"HOME": str(tmp_path), "PROVENDER_HOME": str(tmp_path / "home")}
        run = begun(provender, *words, said=tmp_path / "said", **OPEN, **home)
        until = time.monotonic() + 200
        while teacher.counters()["billed"] < 2 and run.is_alive() and time.monotonic() < until:
            time.sleep(0.05)
        assert run.is_alive(), (tmp_path / "said").read_text("utf-8")
        server = server_of(run.pid or 0)
        others_are_refused(server)
        run.kill()
        run.join()
        assert psutil.wait_procs([server], timeout=20)[1] == [], "the server outlives the killed run"
    assert run.exitcode == -signal.SIGKILL
    assert (tmp_path / "home" / "prefect" / "prefect.db").exists(), "the same database as `up` has"
    assert (tmp_path / "home" / "prefect-run.log").exists()


def others_are_refused(server: psutil.Process) -> None:
    """By the guard, by the password, by the CSRF token, and none is told that another site may ask."""
    (port,) = [int(word) for word in server.cmdline() if word.isdigit()][:1]
    assert {c.laddr.ip for c in server.net_connections("tcp") if c.status == "LISTEN"} == {"127.0.0.1"}
    own, evil = f"http://127.0.0.1:{port}", "http://evil.example"
    for headers in ({"host": "evil.example"}, {"host": f"evil.example:{port}"}, {"origin": evil}, {"origin": "null"}):
        refused = httpx.get(f"{own}/api/health", headers=headers, timeout=30)
        assert (refused.status_code, "for programs on this machine" in refused.text) == (403, True), headers
    assert httpx.get(f"{own}/api/admin/version", timeout=30).status_code == 401, "another user of this machine"
    user, _, password = server.environ()["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
    assert len(password) >= 24
    assert httpx.get(f"{own}/api/admin/version", auth=(user, password), timeout=30).status_code == 200
    unsigned = httpx.post(f"{own}/api/flows/filter", json={}, auth=(user, password), timeout=30)
    assert (unsigned.status_code, unsigned.json()["detail"]) == (403, "Missing CSRF token.")
    asks = {"origin": evil, "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(f"{own}/api/flows/filter", headers=asks).headers
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(f"ws://127.0.0.1:{port}/api/events/in", origin=Origin(evil)),
    ):
        raise AssertionError("opened")


def test_a_server_whose_run_is_gone_ends_before_it_begins() -> None:
    """Started for a process that is no parent of it, as one whose parent was killed in the meantime."""
    words = [sys.executable, "-P", str(GUARDED), "1", "--parent", "1"]
    assert os.getpid() != 1
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def test_where_a_server_is_known_none_is_started() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), served():
        assert get_current_settings().api.url == "http://127.0.0.1:9/api"
        assert standing_server() == "http://127.0.0.1:9/api"


def test_where_prefect_may_start_none_we_start_none() -> None:
    updates = {"server.ephemeral.enabled": False}
    with temporary_settings(updates, restore_defaults={PREFECT_API_URL}), served():
        assert get_current_settings().api.url is None


def test_a_server_that_ends_with_the_run_is_none_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TEMPORARY, "http://127.0.0.1:9/api")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert standing_server() is None, "no training is left to it, and no artifact"


def test_a_server_that_does_not_start_is_one_line_with_the_log_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path))
    monkeypatch.setattr(own_server, "_GUARDED", tmp_path / "guarded.py")
    (tmp_path / "guarded.py").write_text("raise SystemExit('no server today')")
    with (
        temporary_settings({"server.ephemeral.enabled": True}, restore_defaults={PREFECT_API_URL}),
        pytest.raises(own_server.EngineDown, match=r"ended with code 1; see .*prefect-run.log; .* --without-prefect"),
        served(),
    ):
        raise AssertionError("served")
    assert "no server today" in (tmp_path / "prefect-run.log").read_text()


def test_a_flow_with_other_options_still_finds_a_server() -> None:
    changed = curate.with_options(retries=1)
    assert (type(changed), changed.retries) == (type(curate), 1)
