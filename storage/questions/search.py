"""Which examples hold a passage? Turns are scanned object by object, a slice of time per request; what was seen is kept."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.lineage import DatasetRef
from storage.questions.dense import Array, Places
from storage.questions.remembered import arrays
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


def search(
    reader: Reader,
    where: Places,
    text: str,
    *,
    seconds: float | None = SLICED,
    published: tuple[DatasetRef, Array] | None = None,
) -> Found:
    """Places whose examples hold ``text`` in any turn, letter case aside; at least one object is read each time.

    ``seconds`` None looks through everything, and without ``seconds`` a set of at most ``AT_ONCE`` is too.
    ``published`` is a version with a copy of its own and the places' positions in it: then that copy is looked
    through, which holds no row that the version left behind.
    """
    looking = _Looking(reader, text, seconds)
    if published is not None:
        ref, positions = published
        looking.plan([(ref, "train")])
        return Found(looking.hits(ref, "train")[positions], looking.seen, looking.rows)
    wanted = _wanted(where)
    looking.plan([(ref, "examples") for ref in wanted])
    table = {ref: looking.hits(ref, "examples") for ref in wanted}
    return Found(where.gather(table, False), looking.seen, looking.rows)


class _Looking:
    """One request's look: what it may still take, what was seen."""

    def __init__(self, reader: Reader, text: str, seconds: float | None) -> None:
        self.reader = reader
        self.text = text
        self.seconds = seconds
        self.until: float | None = None
        self.seen = self.rows = self.fresh = 0

    def plan(self, parts: Sequence[tuple[DatasetRef, str]]) -> None:
        """Counts what is to be seen and starts the clock, if it is to be looked at."""
        self.rows = sum(part.rows for ref, name in parts for part in self.reader.manifest(ref).parts.get(name, ()))
        if self.seconds == SLICED:
            self.seconds = None if self.rows <= AT_ONCE else SECONDS
        self.until = None if self.seconds is None else time.monotonic() + self.seconds

    def hits(self, ref: DatasetRef, name: str) -> Array:
        """Whether each row of a part holds the text, as far as there was time; what was seen before counts."""
        manifest = self.reader.manifest(ref)
        found: list[Array] = [np.zeros(0, dtype=bool)]
        for number, part in enumerate(manifest.parts.get(name, ())):
            key = (str(self.reader.store.root), manifest.commit_id, "search", name, number, self.text)
            known = arrays.get(key)
            if known is None and (not self.fresh or self.until is None or time.monotonic() < self.until):
                known = _object(self.reader.objects(ref, name)[number][0], part.rows, self.text)
                arrays.keep(key, known)
                self.fresh += 1
            if known is not None:
                self.seen += part.rows
            found.append(known if known is not None else np.zeros(part.rows, dtype=bool))
        return np.concatenate(found)


def _wanted(where: Places) -> Sequence[DatasetRef]:
    """Homes that any place is in."""
    present = set(np.unique(where.home).tolist())
    return [ref for number, ref in enumerate(where.homes) if number in present]


def _object(table: pl.LazyFrame, rows: int, text: str) -> Array:
    """One object's examples; every turn of both conversations counts."""
    wanted = _matcher(text)
    hits = np.zeros(rows, dtype=bool)
    for name in ("messages", "worse"):
        column = table.select(pl.col(name)).collect()[name]
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
