"""An answer as a terminal of its width shows it: long lines wrapped under themselves, bars and verdicts colored.

Text goes through ``safe`` before it comes here; the only escape sequences are those that this file adds, and only where
a person looks on: a pipe gets plain lines of any length.
"""

import os
import re
import shutil
import sys
import textwrap

from cli.console import out

#: Columns of an answer that no terminal asks for.
PIPED = 120
NARROWEST = 60
_COLORS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36, "faint": 2, "bold": 1}
_RULED = re.compile("[─█▒░▁▂▃▄▅▆▇└├]")
_STEP = re.compile(r" *(?:[└├│─ ]*)(?:[a-z0-9_-]+: )?[a-z][a-z0-9-]*@[0-9a-f]{16} +")
_WORDS = (
    (re.compile("[▁▂▃▄▅▆▇█]+"), "cyan"),
    (re.compile("▒+"), "yellow"),
    (re.compile("░+"), "red"),
    (re.compile("─{4,}"), "faint"),
    (re.compile(r"(?m)^(?:Kept)\b|\bgate passed\b|(?<=: )passed\b"), "green"),
    (re.compile(r"(?m)^(?:Dropped|Quarantined)\b|\bgate failed\b|(?<=: )failed\b|\bdamaged:"), "red"),
    (re.compile(r"(?m)^(?:Edited)\b|\bgate (?:unchecked|overridden)\b|(?<=: )(?:unchecked|overridden)\b"), "yellow"),
    (re.compile(r"(?m)^  \+ .*$"), "green"),
    (re.compile(r"(?m)^  - .*$"), "red"),
    (re.compile(r"\b[a-z][a-z0-9-]*@[0-9a-f]{16}\b"), "faint"),
)
_VERDICT = re.compile(r"(?m)(?<=[0-9a-f]{16} )( *)(Kept|Dropped|Edited|Quarantined)\b")
_OF = {"Kept": "green", "Dropped": "red", "Edited": "yellow", "Quarantined": "yellow"}


def width() -> int:
    """Columns that an answer may take: the terminal's, or ``PIPED``."""
    if not sys.stdout.isatty():
        return PIPED
    return max(NARROWEST, shutil.get_terminal_size((PIPED, 24)).columns)


def narrow() -> bool:
    """Whether pictures should be small."""
    return width() < 100


def colored() -> bool:
    """Whether a person looks on who has not asked for plain text (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def tell(text: str) -> None:
    """An answer on stdout, fit for whoever reads it."""
    if sys.stdout.isatty():
        text = wrapped(text, width())
    out(painted(text) if colored() else text)


def wrapped(text: str, columns: int) -> str:
    """Lines of at most ``columns`` characters; what goes on stands under where its line began; tables stay as they are."""
    told: list[str] = []
    for one in text.splitlines():
        if len(one) <= columns or (_RULED.search(one) and not _STEP.match(one)):
            told.append(one)
            continue
        step = _STEP.match(one)
        indent = len(one) - len(one.lstrip())
        hang = min(len(step.group()) if step else indent + 2, columns // 2)
        room = textwrap.TextWrapper(
            columns, subsequent_indent=" " * hang, break_long_words=True, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False, initial_indent="",
        )  # fmt: skip
        told += room.wrap(one)
    return "\n".join(told)


def painted(text: str) -> str:
    """The text with bars, verdicts, edits and refs in color."""
    text = _VERDICT.sub(lambda found: f"{found[1]}{_in(found[2], _OF[found[2]])}", text)
    for pattern, color in _WORDS:
        text = pattern.sub(lambda found, color=color: _in(found.group(), color), text)
    return text


def _in(text: str, color: str) -> str:
    return f"\x1b[{_COLORS[color]}m{text}\x1b[0m"
