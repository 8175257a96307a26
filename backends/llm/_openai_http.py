"""HTTP exchanges with one server: connections kept alive, bodies capped, and whatever goes wrong as an ``Outcome``."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import httpx

from backends.llm._openai_wire import Outcome, TooLarge, failed, unpacked
from backends.protocols import Reply

#: What an answer means: (status, headers, body) → Outcome.
Read = Callable[[int, Any, bytes], Outcome]


class Http:
    """Connections to one server; lives on one event loop."""

    def __init__(self, base_url: str, key: str | None, timeout_seconds: float, max_reply_bytes: int) -> None:
        self._base_url, self._key = base_url, key
        self._timeout, self._cap = timeout_seconds, max_reply_bytes
        self._free: list[httpx.AsyncClient] = []
        self._all: list[httpx.AsyncClient] = []
        # One context for all connections: making one takes longer than a call. A plain one trusts nobody.
        secure = base_url.startswith("https:")
        self._ssl = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def close(self) -> None:
        """Close the connections."""
        for http in self._all:
            await http.aclose()

    async def exchange(
        self,
        path: str,
        content: bytes | None,
        read: Read,
        *,
        content_type: str = "application/json",
        cap: int | None = None,
        seconds: float | None = None,
    ) -> Outcome:
        """POST ``content``, or GET where it is None; a ``path`` without a leading slash is a whole address."""
        got_headers = False
        cap, seconds = cap or self._cap, seconds or self._timeout
        http = self._free.pop() if self._free else self._connection()
        url = self._base_url + path if path.startswith("/") else path
        method = "GET" if content is None else "POST"
        limit = httpx.Timeout(seconds, connect=min(10.0, seconds))
        headers = {} if content is None else {"content-type": content_type}
        try:
            async with (
                asyncio.timeout(seconds),
                http.stream(method, url, content=content, headers=headers, timeout=limit) as response,
            ):
                got_headers = True
                raw = bytearray()
                async for piece in response.aiter_raw():
                    raw += piece
                    if len(raw) > cap:
                        raise TooLarge
                encoding = response.headers.get("content-encoding", "").strip().lower()
                return read(response.status_code, response.headers, unpacked(bytes(raw), encoding, cap))
        except (TimeoutError, httpx.TimeoutException):
            return failed("timeout", f"no complete answer within {seconds:g} s")
        except TooLarge:
            return failed("undecodable", f"the body is over {cap:,} bytes", overloaded=False, billed=True)
        except ValueError as error:
            return failed("undecodable", str(error), overloaded=False, billed=True)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            return Outcome("fatal", Reply(failure="connection", finish_reason="error", message=str(error)))
        except httpx.HTTPError as error:
            if got_headers:
                return failed(
                    "undecodable", f"the body broke off ({type(error).__name__})", overloaded=False, billed=True
                )
            return failed("connection", f"{type(error).__name__}: {error}")
        finally:
            self._free.append(http)

    def _connection(self) -> httpx.AsyncClient:
        """One more connection. Each has a client of its own: a pool of many costs time that grows with its square."""
        loopback = any(f"//{host}" in self._base_url for host in ("127.", "localhost", "[::1]"))
        headers = {"accept-encoding": "identity", "user-agent": "provender"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        http = httpx.AsyncClient(
            headers=headers,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            trust_env=not loopback,  # a proxy of the environment is no way to our own machine
            verify=self._ssl,
            follow_redirects=False,
        )
        self._all.append(http)
        return http
