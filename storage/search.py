"""Which examples hold a passage? Turns are scanned object by object, a slice of time per request; what was seen is kept."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.lineage import DatasetRef
from storage.dense import Array, Places, examples_of
from storage.remembered import arrays
from storage.seek import Reader

#: Seconds that one request looks for; the next one goes on where it stopped.
SECONDS = 0.1
#: So many examples are looked through at once, whatever the clock says: a fraction of the slice on an idle machine.
AT_ONCE = 20_000
#: Stands for the slice of a request, or no limit where there is little to look through.
SLICED = -1.0
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$#&\-~])")


@dataclass(frozen=True)
class Found:
    """``hits``: for each place whether a turn of its example holds the passage, as far as ``seen`` of ``rows`` went."""

    hits: Array
    seen: int
    rows: int

    @property
    def whole(self) -> bool:
        """Whether every example was looked at."""
        return self.seen >= self.rows


def search(reader: Reader, where: Places, text: str, *, seconds: float | None = SLICED) -> Found:
    """Places whose examples hold ``text`` in any turn, letter case aside; at least one object is read each time.

    ``seconds`` None looks through everything, and without ``seconds`` a set of at most ``AT_ONCE`` is too.
    """
    if seconds == SLICED:
        small = sum(examples_of(reader.manifest(ref)) for ref in _wanted(where)) <= AT_ONCE
        seconds = None if small else SECONDS
    until = None if seconds is None else time.monotonic() + seconds
    table: dict[DatasetRef, Array] = {}
    seen = rows = 0
    fresh = 0
    for ref in _wanted(where):
        manifest = reader.manifest(ref)
        hits = np.zeros(examples_of(manifest), dtype=bool)
        start = 0
        for number, part in enumerate(manifest.parts.get("examples", ())):
            key = (str(reader.store.root), manifest.commit_id, "search", number, text)
            known = arrays.get(key)
            if known is None and (not fresh or until is None or time.monotonic() < until):
                known = _object(reader, ref, start, part.rows, text)
                arrays.keep(key, known)
                fresh += 1
            if known is not None:
                hits[start : start + part.rows] = known
                seen += part.rows
            start += part.rows
        rows += start
        table[ref] = hits
    return Found(where.gather(table, False), seen, rows)


def _wanted(where: Places) -> Sequence[DatasetRef]:
    """Homes that any place is in."""
    present = set(np.unique(where.home).tolist())
    return [ref for number, ref in enumerate(where.homes) if number in present]


def _object(reader: Reader, ref: DatasetRef, start: int, rows: int, text: str) -> Array:
    """One object's examples; every turn of both conversations counts."""
    wanted = _matcher(text)
    scan = reader.scan(ref, "examples").slice(start, rows)
    hits = np.zeros(rows, dtype=bool)
    for name in ("messages", "worse"):
        column = scan.select(pl.col(name)).collect()[name]
        if column.null_count() == column.len():
            continue
        lengths = column.list.len().fill_null(0).to_numpy()
        turns = column.list.explode(empty_as_null=False, keep_nulls=False).struct.field("content")
        found = turns.to_frame("turn").select(wanted.fill_null(False))["turn"].to_numpy()
        hits[np.repeat(np.arange(rows), lengths)[found]] = True
    return hits


def _matcher(text: str) -> pl.Expr:
    """Whether a turn holds the passage: without a regular expression where letters are ASCII, three times as fast."""
    if text.isascii():
        return pl.col("turn").str.contains_any([text], ascii_case_insensitive=True)
    return pl.col("turn").str.contains("(?i)" + _SPECIAL.sub(r"\\\1", text))
