"""Plain text that a dataset cannot drive: lines, blocks and tables with control characters shown as escapes."""

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from cli.console import safe
from cli.paint import width as columns
from storage.questions.words import counted


def line(text: str) -> str:
    """Text on one line, with what could drive a terminal shown as escapes."""
    return safe(" ".join(text.split()))


#: Characters of a line that a terminal is shown: some twenty of its own lines.
LONGEST = 2000


def block(text: str, indent: str = "  ", most: int = 40) -> str:
    """Text with its line breaks, each line indented and made harmless.

    What lies beyond ``most`` lines, or beyond ``LONGEST`` characters of one, is counted; ``--json`` has it.
    """
    lines = text.splitlines() or [""]
    told = [indent + safe(one[:LONGEST].replace("\t", "    ")) + _rest(one) for one in lines[:most]]
    if len(lines) > most:
        told.append(f"{indent}… {counted(len(lines) - most, 'more line')}")
    return "\n".join(told)


def _rest(text: str) -> str:
    return f" … {counted(len(text) - LONGEST, 'more character')}" if len(text) > LONGEST else ""


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    right: Sequence[int] = (),
    *,
    whole: Sequence[int] = (),
    width: int | None = None,
) -> str:
    """Aligned columns; ``right`` names those that hold figures.

    The widest column gives way when the width (that of the terminal, if none is given) is short, but never one of
    ``whole``: what a person types again.
    """
    width = columns() if width is None else width
    cells = [[line(str(cell)) if cell is not None else "" for cell in row] for row in rows]
    sizes = [max([cell_len(name), *(cell_len(row[i]) for row in cells)]) for i, name in enumerate(head)]
    gives = [i for i in range(len(sizes)) if i not in whole and i not in right]
    while gives and sum(sizes) + 2 * (len(sizes) - 1) > width:
        widest = max(gives, key=lambda i: sizes[i])
        if sizes[widest] <= 8:
            break
        sizes[widest] -= 1
    lines = ["  ".join(_fit(name, sizes[i], i in right) for i, name in enumerate(head)).rstrip()]
    lines.append("  ".join("─" * one for one in sizes))
    lines += ["  ".join(_fit(cell, sizes[i], i in right) for i, cell in enumerate(row)).rstrip() for row in cells]
    return "\n".join(lines)


def _fit(text: str, width: int, right: bool) -> str:
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - length) + text if right else text + " " * (width - length)
