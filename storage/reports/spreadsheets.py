"""Tables as files that people open in spreadsheets: no cell of a dataset becomes a formula."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: What makes a spreadsheet take a cell for a formula or a field for two.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_lines(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> Iterator[str]:
    """CSV with a header, a line at a time; text that would be a formula gets an apostrophe before it."""
    names = list(columns)
    yield _line(names)
    for row in rows:
        yield _line([row.get(name) for name in names])


def jsonl_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One JSON object a line, as it is."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False, default=str) + "\n"


def _line(cells: list[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([harmless(cell) for cell in cells])
    return out.getvalue()


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet computes. Numbers stay numbers; text that looks like one stays text."""
    if cell is None or isinstance(cell, bool | int | float):
        return cell
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)
    text = text.replace("\x00", "")
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) else text
