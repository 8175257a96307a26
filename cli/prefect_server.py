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
    return connection(home).get("PREFECT_API_URL")


def connection(home: Path) -> dict[str, str]:
    """What a program sets to talk to that server: its address and its password; empty if none runs."""
    try:
        noted = json.loads(state_file(home).read_text("utf-8"))
        process = psutil.Process(noted["pid"])
        alive = abs(process.create_time() - noted["started"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
        if not alive:
            return {}
        known = {"PREFECT_API_URL": str(noted["api"]), "PREFECT_API_AUTH_STRING": str(noted.get("auth", ""))}
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return {}
    return {name: value for name, value in known.items() if value}


def start(home: Path, port: int = 0, wait_seconds: float = 180) -> str:
    """Start the server (or find it running) and wait until it is healthy; its API address.

    Other users of this machine reach its port as well, and a run is a program: so it has a password, kept where only we read.
    """
    if address := address_of_running(home):
        return address
    import httpx

    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = port or _free_port()
    api = f"http://127.0.0.1:{port}/api"
    secret = password()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": secret,
        "PREFECT_API_AUTH_STRING": secret,  # its own services are its clients
        **({"PREFECT_SERVER_UI_ENABLED": "false"} if os.environ.get("PROVENDER_PREFECT_NO_UI") else {}),
    }
    words = [sys.executable, "-P", "-m", "tasks.prefect_guarded", str(port)]  # -P: not `tasks` of the folder we are in
    with (home / "prefect-server.log").open("ab") as log:
        process = subprocess.Popen(
            words, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    noted = {
        "pid": process.pid,
        "started": psutil.Process(process.pid).create_time(),
        "api": api,
        "auth": secret,
    }
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineDown(
                f"the Prefect server ended with code {process.returncode}; see {home / 'prefect-server.log'}"
            )
        try:
            if httpx.get(f"{api}/health", timeout=2).status_code == 200:
                _note(state_file(home), json.dumps(noted))
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


def password() -> str:
    """A new one, as Prefect takes it: ``user:secret``."""
    return f"provender:{secrets.token_urlsafe(18)}"


def _note(path: Path, text: str) -> None:
    """Written for our eyes only; an older file of other rights is not written through."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
