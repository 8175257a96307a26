"""The local Prefect server that `provender up` keeps running: loopback only, with the defaults that Prefect leaves open closed."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from schemas.errors import EngineDown


def state_file(home: Path) -> Path:
    """Where the running server is noted."""
    return home / "prefect-server.json"


def address_of_running(home: Path) -> str | None:
    """API address of the server that `up` started, if it still runs."""
    try:
        noted = json.loads(state_file(home).read_text("utf-8"))
        process = psutil.Process(noted["pid"])
        alive = abs(process.create_time() - noted["started"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
    return str(noted["api"]) if alive else None


def start(home: Path, port: int = 0, wait_seconds: float = 180) -> str:
    """Start the server (or find it running) and wait until it is healthy; its API address."""
    if address := address_of_running(home):
        return address
    import httpx

    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = port or _free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        **({"PREFECT_SERVER_UI_ENABLED": "false"} if os.environ.get("PROVENDER_PREFECT_NO_UI") else {}),
    }
    environment.pop("PREFECT_API_URL", None)
    words = [sys.executable, "-P", "-m", "cli.prefect_guarded", str(port)]  # -P: not a `cli` of the folder we are in
    with (home / "prefect-server.log").open("ab") as log:
        process = subprocess.Popen(
            words, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    noted = {
        "pid": process.pid,
        "started": psutil.Process(process.pid).create_time(),
        "api": api,
        "nonce": secrets.token_hex(4),
    }
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineDown(
                f"the Prefect server ended with code {process.returncode}; see {home / 'prefect-server.log'}"
            )
        try:
            if httpx.get(f"{api}/health", timeout=2).status_code == 200:
                state_file(home).write_text(json.dumps(noted), "utf-8")
                return api
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    raise EngineDown(
        f"the Prefect server was not healthy after {wait_seconds:.0f} s; see {home / 'prefect-server.log'}"
    )


def stop(home: Path) -> bool:
    """Stop the server that `up` started; False if there was none."""
    if not address_of_running(home):
        state_file(home).unlink(missing_ok=True)
        return False
    pid = int(json.loads(state_file(home).read_text("utf-8"))["pid"])
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.terminate()
    _, left = psutil.wait_procs(family, timeout=15)
    for member in left:
        member.kill()
    state_file(home).unlink(missing_ok=True)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
