"""The place where `provender serve` listens: taken before anything is said, so that what is printed is where it is."""

import contextlib
import errno
import socket

from schemas.errors import UsageError

#: Written as a host, these take every address of the machine.
EVERY = ("0.0.0.0", "::")

_PROBLEMS = {
    errno.EADDRINUSE: "is taken, perhaps by another `provender serve`; give --port 0 for a free one",
    errno.EACCES: "may not be taken by you; give a --port above 1023",
    errno.EADDRNOTAVAIL: "is no address of this machine; give --host one that is",
}


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. ``UsageError`` with the way out if it cannot be had."""
    try:
        (family, kind, protocol, _, place), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(
            f"--host {host[:80]} is no address of this machine ({error.strerror}); give one that is"
        ) from error
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(place)
        taken.listen(128)
    except OSError as error:
        taken.close()
        problem = _PROBLEMS.get(
            error.errno or 0, f"cannot be listened at ({error.strerror}); name another --host or --port"
        )
        raise UsageError(f"{host}:{port} {problem}") from error
    return taken


def address_of(taken: socket.socket, host: str) -> str:
    """What to type into a browser: a name of this machine where it listens on all of its addresses."""
    port = taken.getsockname()[1]
    name = socket.gethostname() if host in EVERY else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def names_of(host: str, more: list[str]) -> list[str]:
    """Names that a request may carry in ``Host``: of loopback all, else the one given, this machine's own, and ``more``."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return [host, "127.0.0.1", "localhost", "::1", *more]
    found = [host, *more]
    if host in EVERY:
        found += ["127.0.0.1", "localhost", "::1", socket.gethostname()]
        with contextlib.suppress(OSError):
            found.append(socket.getfqdn())
    return list(dict.fromkeys(found))
