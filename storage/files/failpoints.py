"""Named places in the commit protocol where a test may kill the process: ``PROVENDER_FAILPOINT=manifest-linked:2``."""

import os
import signal

_hits: dict[str, int] = {}

#: Every place, in the order a first commit passes them; ``rejoined`` only when the result was there already.
FAILPOINTS = (
    "object-created",
    "object-written",
    "object-synced",
    "object-renamed",
    "object-durable",
    "manifest-written",
    "manifest-synced",
    "manifest-linked",
    "manifest-durable",
    "rejoined",
)


def reached(name: str) -> None:
    """SIGKILL to this very process if the environment names this place and this is the hit it asks for."""
    wanted = os.environ.get("PROVENDER_FAILPOINT")
    if wanted is None:
        return
    place, _, hit = wanted.partition(":")
    if place == name:
        _hits[name] = _hits.get(name, 0) + 1
        if _hits[name] == int(hit or 1):
            os.kill(os.getpid(), signal.SIGKILL)
