"""All rows that came, went or were edited between two versions, a page at a time: what the figures of a comparison count."""

from typing import Any, Literal, get_args

import numpy as np

from schemas.errors import UsageError
from schemas.lineage import DatasetRef
from storage.questions.absent import Apart, apart, edit_pairs
from storage.questions.codes import Codes
from storage.questions.dense import Array, places
from storage.questions.diff import codes_of
from storage.questions.find import scope_of
from storage.questions.remembered import arrays
from storage.questions.views import View
from storage.questions.words import preview
from storage.seek import Reader, legible
from storage.store import Store

Which = Literal["added", "removed", "edited", "common"]
KINDS: tuple[Which, ...] = get_args(Which)


class ChangedRow(View):
    """An example as one line; ``became`` is the id of what it was edited into."""

    id: str
    source: str
    license: str | None
    prompt: str
    answer: str
    became: str | None = None


class ChangedPage(View):
    """Some of the rows behind one figure of a comparison, in the order in which their steps made them."""

    before: str
    after: str
    which: Which
    total: int
    start: int
    rows: tuple[ChangedRow, ...]
    next: int | None


def changed_rows(
    store: Store, before: DatasetRef | str, after: DatasetRef | str, which: Which, *, start: int = 0, limit: int = 25
) -> ChangedPage:
    """Rows that ``after`` has and ``before`` has not (``added``), the reverse (``removed``), pairs (``edited``), or those
    that both hold. Raises ``UsageError`` for another word.
    """
    if which not in KINDS:
        raise UsageError(f"rows of a comparison are {', '.join(KINDS)}, not {which[:40]!r}")
    reader = Reader(store)
    a, b = (store.resolve(one) if isinstance(one, str) else one for one in (before, after))
    with legible(f"the difference of {before} and {after}"):
        codes = codes_of(reader, scope_of(reader, before), scope_of(reader, after))
        key = (str(store.root), "changed", reader.manifest(a).commit_id, reader.manifest(b).commit_id, which)
        lies, became = arrays.of(key, lambda: _found(reader, codes, a, b, which))
        start, limit = max(0, start), max(1, min(limit, 500))
        lines = _lines(
            reader, codes, lies[start : start + limit], None if became is None else became[start : start + limit]
        )
    return ChangedPage(
        before=str(a), after=str(b), which=which, total=len(lies), start=start, rows=lines,
        next=start + limit if start + limit < len(lies) else None,
    )  # fmt: skip


def _found(reader: Reader, codes: Codes, a: DatasetRef, b: DatasetRef, which: Which) -> tuple[Array, Array | None]:
    """Where the rows lie, as ``Codes.places`` numbers places; for edits also the numbers of what they became."""
    old, new = (places(reader, ref) for ref in (a, b))
    if which == "common":
        _, all_ = apart(codes, old, np.zeros(codes.size, dtype=bool))
        return all_.only(codes.flags(new)[all_.numbers]).lies, None
    _, gone = apart(codes, old, codes.flags(new))
    _, came = apart(codes, new, codes.flags(old))
    steps = [*reader.store.upstream(a), *reader.store.upstream(b)]
    went, arrived = edit_pairs(reader, codes, steps, gone, came)
    if which == "edited":
        order = np.argsort(went, kind="stable")
        return _lies_of(gone, went[order]), arrived[order]
    side, edited = (gone, went) if which == "removed" else (came, arrived)
    return side.only(~np.isin(side.numbers, edited)).lies, None


def _lies_of(side: Apart, numbers: Array) -> Array:
    return side.lies[np.searchsorted(side.numbers, numbers)]


def _lines(reader: Reader, codes: Codes, lies: Array, became: Array | None) -> tuple[ChangedRow, ...]:
    if not len(lies):
        return ()
    examples = _examples(reader, codes, lies, ("id", "source", "license", "messages"))
    after = [row["id"].hex() for row in _examples(reader, codes, became, ("id",))] if became is not None else None
    told: list[ChangedRow] = []
    for i, row in enumerate(examples):
        turns = [turn for turn in row["messages"] or () if turn["role"] != "system"]
        told.append(
            ChangedRow(
                id=row["id"].hex(),
                source=row["source"] or "",
                license=row["license"],
                prompt=preview(turns[0]["content"] or "", 140) if turns else "",
                answer=preview(turns[-1]["content"] or "", 140) if len(turns) > 1 else "",
                became=after[i] if after else None,
            )
        )
    return tuple(told)


def _examples(reader: Reader, codes: Codes, numbers: Array, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    where = codes.at(numbers)
    spots = [(where.homes[int(home)], int(row)) for home, row in zip(where.home, where.row, strict=True)]
    return reader.examples(spots, columns)
