"""What stands before every page: the Host list, the token, one way to write, headers that leave a browser little to do.

A page that another site opens by DNS rebinding carries that site's name in ``Host``, so only listed names are answered.
Requests of other sites' scripts are told apart by ``Sec-Fetch-Site`` and ``Origin`` and refused.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
)
COOKIE = "provender"

#: The only address that may be written to: the review queue's. Its form must come from a page of this very site.
WRITES = ("/review",)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware. ``token`` None: no token is asked for (loopback only)."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], token: str | None) -> None:
        self.app = app
        self.hosts = {host.strip("[]").lower() for host in hosts}
        #: Where it listens on every address, any address in figures will do: only a name can be rebound to this machine.
        self.any_address = token is not None and bool(self.hosts & {"0.0.0.0", "::"})
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers itself what it refuses, hands on the rest with the headers put on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets here
        refusal = self._refusal(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    if name not in headers:
                        headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store" if self.token else "no-cache"
            await send(message)

        await (refusal or self.app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.getlist("host")
        name = _name(host[0]) if len(host) == 1 else ""
        if name not in self.hosts and not (self.any_address and _is_address(name)):
            return PlainTextResponse(
                "this host name is not served here; `provender serve --allow-host NAME` adds one\n", 403
            )
        origin = headers.get("origin")
        writes = scope["method"] == "POST" and scope["path"] in WRITES
        if scope["method"] not in ("GET", "HEAD") and not writes:
            return PlainTextResponse("the browser only reads\n", 405, {"allow": "GET, HEAD"})
        if writes and (origin is None or headers.get("sec-fetch-site", "same-origin") != "same-origin"):
            return PlainTextResponse("only a form of this site may write\n", 403)
        if origin is not None and origin.partition("://")[2] != host[0]:
            return PlainTextResponse("requests of other sites are refused\n", 403)
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("requests of other sites are refused\n", 403)
        return self._without_token(scope, headers) if self.token is not None else None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """None if the token was shown: as a cookie, a bearer, or once in the address, which is then cleaned."""
        assert self.token is not None
        told = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for key, value in told if key == "token"]
        if given and _same(given[0], self.token):
            rest = urlencode([(key, value) for key, value in told if key != "token"])
            clean = RedirectResponse(scope["path"].replace("//", "/") + (f"?{rest}" if rest else ""), 303)
            clean.set_cookie(COOKIE, _derived(self.token), httponly=True, samesite="strict", path="/")
            return clean
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self.token):
            return None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and _same(cookie.value, _derived(self.token)):
            return None
        return PlainTextResponse("open the address that `provender serve` printed, with its token\n", 401)


def _name(host: str) -> str:
    """The name in a Host header without its port."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _derived(token: str) -> str:
    """What the cookie holds: it opens this server and says nothing about the token."""
    return hashlib.sha256(f"provender cookie {token}".encode()).hexdigest()
