"""Where a text comes from, in a terminal: the examples that were found, how, what became of them, and what to ask next."""

import sys
import time
from collections.abc import Callable

from cli.console import say
from cli.plain import line
from storage.questions.pasted import HOW, Pasted
from storage.questions.words import counted

_EVERY_SECONDS = 2.0


def asked_text(given: str) -> str:
    """The text of ``--text``; of standard input for ``-``."""
    if given != "-":
        return given
    if sys.stdin.isatty():
        say("paste the text, then end it with Ctrl-D on a line of its own")
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def looking() -> Callable[[int, int], None]:
    """A line on stderr every two seconds of a long search."""
    last = time.monotonic()

    def told(seen: int, rows: int) -> None:
        nonlocal last
        if time.monotonic() - last > _EVERY_SECONDS:
            last = time.monotonic()
            say(f"looked through {seen:,} of {rows:,} examples …")

    return told


def pasted_text(found: Pasted) -> str:
    """Surest first: id, how it was found, its beginning, its fate; below, what was compared and the next command."""
    where = f"the history of {line(found.within)}" if found.within else "all versions"
    told = [
        f"{counted(len(found.hits), 'example') if found.hits else 'no example'} found among {found.seen:,} of "
        f"{found.rows:,} of {where}, dropped ones included"
    ]
    for hit in found.hits:
        told += [
            "",
            f"{hit.id[:12]}  {HOW[hit.how]}: {line(hit.says)}",
            f"  {line(hit.fate)}",
            f"  from {line(hit.source)}: {line(hit.preview)}",
        ]
    told += ["", "words are compared with letter case, spaces and punctuation aside"]
    if found.near_by is not None:
        told[-1] += f"; nearness in {line(found.near_in or '')} is the cosine of {line(found.near_by)}"
    told += [f"{line(one.place)} cannot be read: {line(one.problem)}" for one in found.damage]
    if found.hits:
        within = f" --in {line(found.within)}" if found.within else ""
        told += ["", f"next: provender trace {found.hits[0].id[:12]}{within}"]
    return "\n".join(told)
