"""Prefect's server as `provender up` runs it: `python -m cli.prefect_guarded PORT`, on loopback, for this machine's programs.

Prefect answers under any host name, and no browser holds a web socket to CORS: a page of any site could read what runs
here by DNS rebinding, or publish an event, and an event can start a training. Both are refused before Prefect sees them.
"""

import sys
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "[::1]")
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


def main() -> None:
    """Serve until told to stop; the settings come from the environment."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    port, server = int(sys.argv[1]), get_current_settings().server
    uvicorn.run(
        LoopbackOnly(create_app(final=True), port),
        host="127.0.0.1",
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    main()
