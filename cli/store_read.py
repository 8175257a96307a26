"""The store that a verb reads which only looks: the one named, else ``./store``, else the one that `make demo` leaves."""

import os
from pathlib import Path

from cli.console import DEFAULT_STORE, say

#: Where the quickstart of a fresh clone puts its store.
DEMO_STORE = Path("demo/store")


def looked_at(store: Path) -> Path:
    """``store``; the demo's where none was named, ``./store`` is absent and the demo's is there, which is said on stderr."""
    named = store != DEFAULT_STORE or bool(os.environ.get("PROVENDER_STORE"))
    if named or store.exists() or not (DEMO_STORE / "FORMAT").is_file():
        return store
    say(f"there is no ./{DEFAULT_STORE}: this reads {DEMO_STORE} (--store names another one)")
    return DEMO_STORE
