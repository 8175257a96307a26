"""The Prefect server of a process that knows none: started with its first flow run, guarded, gone with the process.

Prefect would start one by itself, which answers under any host name and to any user of the machine. Ours is the one
that `provender up` keeps running (tasks/prefect_guarded.py), on a port, with a password, and for a time of its own.
"""

import atexit
import base64
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from prefect import context
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, get_current_settings, temporary_settings

from schemas.errors import EngineDown

#: Names the server that ends with us, also in the processes that we start: none may be waited for there.
TEMPORARY = "PROVENDER_TEMPORARY_SERVER"

_GUARDED = Path(__file__).with_name("prefect_guarded.py")
_WAIT_SECONDS = 180.0  # on a busy machine it takes half a minute
_LOG_BYTES = 1 << 20  # a log that is longer begins anew
_GRACE_SECONDS = 6.0  # it ends itself after five (tasks/prefect_guarded.py)


@dataclass(frozen=True)
class _Server:
    """One that we started."""

    process: "subprocess.Popen[bytes]"
    owner: int
    port: int
    auth: str
    log: Path | None

    @property
    def api(self) -> str:
        """Its API's address."""
        return f"http://127.0.0.1:{self.port}/api"


_running: _Server | None = None
_starting = threading.Lock()


def standing_server() -> str | None:
    """API address of the Prefect server that is there when this run is over; None where there is none."""
    api = get_current_settings().api.url
    return None if api == os.environ.get(TEMPORARY) else api


@contextmanager
def served() -> Generator[None]:
    """A Prefect server is known while the block goes: the one of the settings, else our own, which stays until the process ends.

    Raises ``EngineDown`` where it cannot be started. Where Prefect's settings forbid a temporary server, none is.
    """
    settings = get_current_settings()
    if _ours(settings.api.url):
        server = _own()  # again, where it was killed in between
    elif settings.api.url or not settings.server.ephemeral.enabled:
        yield
        return
    else:
        server = _own()
    if get_current_settings().api.url == server.api:
        yield
        return
    with temporary_settings({PREFECT_API_URL: server.api, PREFECT_API_AUTH_STRING: server.auth}):  # settings of a block
        yield


def _ours(api: str | None) -> bool:
    return api is not None and _running is not None and api == _running.api


def _own() -> _Server:
    global _running
    with _starting:
        if _running is None or _running.owner != os.getpid() or _running.process.poll() is not None:
            _running = _started(_running)
            atexit.register(_stop, _running)
            _known(_running)
        return _running


def _started(before: _Server | None) -> _Server:
    """A server that answers, in the place of one that ended: Prefect's threads hold on to the address.

    Its socket listens before it does: no other process can take the port in between.
    """
    auth = before.auth if before else f"provender:{secrets.token_urlsafe(18)}"
    taken = _listening(before.port if before else 0)
    port = int(taken.getsockname()[1])
    settings = get_current_settings()
    environment = {
        **os.environ,
        **settings.to_environment_variables(exclude_unset=True),  # as Prefect hands them on: its home, its database
        "PREFECT__SERVER_EPHEMERAL": "1",  # no pages, and the services alone that a run needs
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_UI_ENABLED": "0",
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_API_AUTH_STRING": auth,  # its own services are its clients
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    words = [sys.executable, "-P", str(_GUARDED), str(port)]
    words += ["--socket", str(taken.fileno()), "--parent", str(os.getpid())]
    log, file = _log()
    with taken:
        process = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=(taken.fileno(),),
            start_new_session=True,  # Ctrl-C is ours to answer: the run is to write its end
        )  # fmt: skip
    if file is not None:
        file.close()
    server = _Server(process, os.getpid(), port, auth, log)
    try:
        _wait(server, _WAIT_SECONDS)
    except BaseException:
        _stop(server)
        raise
    return server


def _listening(port: int) -> socket.socket:
    """A socket of loopback at this port; at any where another program has it by now."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _wait(server: _Server, seconds: float) -> None:
    """Until it answers us; ``EngineDown`` where it ends or takes longer."""
    told = f"; see {server.log}" if server.log else ""
    signed = {"Authorization": "Basic " + base64.b64encode(server.auth.encode()).decode()}
    deadline = time.monotonic() + seconds
    with httpx.Client(timeout=20, trust_env=False, headers=signed) as client:
        while time.monotonic() < deadline:
            if server.process.poll() is not None:
                raise EngineDown(
                    f"the temporary Prefect server ended with code {server.process.returncode}{told}; `provender up` keeps "
                    "one running, and --without-prefect needs none"
                )
            with suppress(httpx.HTTPError):  # it listened, and ended, or takes its time
                if client.get(f"{server.api}/health").status_code == 200:
                    return
            time.sleep(0.05)
    raise EngineDown(
        f"the temporary Prefect server did not answer within {seconds:.0f} s{told}; `provender up` keeps one running, and "
        "--without-prefect needs none"
    )


def _known(server: _Server) -> None:
    """Prefect's settings of this process, its threads' too, name the server; the environment of what we start does not."""
    names = {"PREFECT_API_URL": server.api, "PREFECT_API_AUTH_STRING": server.auth}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        context.refresh_global_settings_context()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    os.environ[TEMPORARY] = server.api


def _stop(server: _Server) -> None:
    """Let it write what it holds, then end it; not from a process that was forked from ours."""
    if server.owner != os.getpid():
        return
    server.process.terminate()
    try:
        server.process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def _log() -> "tuple[Path | None, IO[bytes] | None]":
    """Where it writes what goes wrong; our own stderr where no home can be written."""
    home = Path(os.environ.get("PROVENDER_HOME") or Path.home() / ".local/state/provender")
    path = home / "prefect-run.log"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        longest = path.exists() and path.stat().st_size > _LOG_BYTES
        return path, path.open("wb" if longest else "ab")
    except OSError:
        return None, None
