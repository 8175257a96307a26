"""Prefect's server as we start it, `up` and a run without one: `python prefect_guarded.py PORT`, loopback only, defaults closed.

Prefect answers under any host name, and no browser holds a web socket to CORS: a page of any site could read what runs
here by DNS rebinding, or publish an event, and an event can start a training. Both are refused before Prefect sees them.
It imports nothing of ours, so that it runs from wherever it lies.
"""

import argparse
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "[::1]")
GRACE_SECONDS = 5.0  # what a server whose run is over has for what it has not written yet
_REFUSED = "this server is for programs on this machine and for its own pages\n"


class LoopbackOnly:
    """ASGI middleware: a request must name this machine in ``Host``, and in ``Origin`` where it has one."""

    def __init__(self, app: "ASGIApp", port: int) -> None:
        self.app = app
        self.hosts = {f"{name}:{port}" for name in HOSTS}

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Hands on what may pass; 403, or a web socket that is closed before it opens, for the rest."""
        if scope["type"] == "lifespan" or self.passes(Headers(scope=scope)):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": _REFUSED.strip()})
        else:
            await PlainTextResponse(_REFUSED, 403)(scope, receive, send)

    def passes(self, headers: Headers) -> bool:
        """Whether this names us alone: one host, and no other site as its origin."""
        named, origins = headers.getlist("host"), headers.getlist("origin")
        if len(named) != 1 or named[0].lower() not in self.hosts:
            return False
        return all(origin.lower() in {f"http://{host}" for host in self.hosts} for origin in origins)


def closed(port: int) -> dict[str, str]:
    """Prefect's settings that say who may ask, whatever the environment or a profile says; the password comes from outside."""
    return {
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def main() -> None:
    """Serve until told to stop, or until the process that it serves is gone; other settings come from the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--socket", type=int, help="Descriptor of a socket that listens at the port already.")
    parser.add_argument("--parent", type=int, help="End with this process, however it ends.")
    given = parser.parse_args()
    if given.parent is not None:
        threading.Thread(target=_end_with, args=(given.parent,), daemon=True).start()
    os.environ.pop("PREFECT_API_URL", None)
    os.environ.update(closed(given.port))

    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    config = uvicorn.Config(
        LoopbackOnly(create_app(final=True), given.port),
        host="127.0.0.1",
        port=given.port,
        lifespan="on",
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        timeout_graceful_shutdown=int(GRACE_SECONDS),
        log_level=server.logging_level.lower(),
    )
    taken = [socket.socket(fileno=given.socket)] if given.socket is not None else None
    uvicorn.Server(config).run(sockets=taken)


def _end_with(parent: int) -> None:
    """Stop as if told to when the parent is gone, then at once. Asked for again and again: a parent may be killed,
    what the kernel could signal is the end of a thread, and a pipe is held open by whatever the parent forked.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
