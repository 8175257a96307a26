"""What if a threshold had been another one? Counts, composition and rows, from stored scores alone; no step runs."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from schemas.errors import UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.questions import figures
from storage.questions.choice import Chosen, Judge
from storage.questions.dense import (
    Array,
    Column,
    Places,
    carry,
    column_named,
    columns_of,
    facet,
    laid_out,
    places,
    scores_at,
)
from storage.questions.find import tag_of
from storage.questions.movable import Fixed, Threshold, decided, movable
from storage.questions.rows import Range, RowLine, lines_of
from storage.questions.view import View
from storage.questions.views import Histogram
from storage.questions.words import number, step_view
from storage.seek import Reader, legible
from storage.store import Store

#: Rows shown of each kind, the ones nearest to the threshold first.
SHOWN = 12

NOT_RERUN = (
    "Only stored scores are looked at. Later steps are not run again: rows that would come back have no verdict from "
    "them, so the size of the new version is an interval; a selection that keeps a fixed number would fill up again."
)


class Move(View):
    """What moving one threshold does at its own step."""

    key: str
    to: float
    kept_before: int
    kept_after: int
    newly_kept: int
    newly_dropped: int


class Bound(View):
    """A range asked of a score that no step cut there: members outside it would go, those without the score stay."""

    key: str
    stage: str
    method: str
    low: float | None
    high: float | None
    lowest: float | None  # of the version's members; None where none has the score
    highest: float | None
    drops: int
    unscored: int
    histogram: Histogram | None


class Part(View):
    """Rows of one source in the version, before and after."""

    source: str
    before: int
    after: int  # once the newly dropped are gone
    may_come: int  # newly kept at the moved step; later steps would still judge them


class WhatIf(View):
    """The answer. ``after_low`` to ``after_high`` is the size of the version, if no or all newly kept rows came through."""

    ref: str
    tag: str | None
    thresholds: tuple[Threshold, ...]
    fixed: tuple[Fixed, ...]
    moves: tuple[Move, ...]
    bounds: tuple[Bound, ...] = ()
    columns: tuple[str, ...] = ()  # scores that a bound can be put on
    before: int
    after_low: int
    after_high: int
    parts: tuple[Part, ...]
    newly_kept: tuple[RowLine, ...]
    newly_dropped: tuple[RowLine, ...]
    says: str
    note: str = NOT_RERUN


def what_if(
    store: Store,
    version: DatasetRef | str,
    moves: Mapping[str, float] | None = None,
    bounds: Mapping[str, Range] | None = None,
    *,
    shown: int = SHOWN,
) -> WhatIf:
    """The version, had the thresholds in ``moves`` (by key) been these and its scores held to ``bounds`` (by column).

    Without either, what can be moved. ``shown`` rows of each kind are read, none for the counts alone. Raises
    ``UsageError`` for a key it does not have, a threshold that is no number, or a bound that is upside down.
    """
    reader = Reader(store)
    ref = store.resolve(version) if isinstance(version, str) else version
    with legible(f"the thresholds behind {ref}"):
        return _what_if(
            reader, ref, version if isinstance(version, str) else None, dict(moves or {}), bounds or {}, shown
        )


def _what_if(
    reader: Reader,
    ref: DatasetRef,
    named: str | None,
    moves: dict[str, float],
    bounds: Mapping[str, Range],
    shown: int,
) -> WhatIf:
    thresholds, fixed = movable(reader, ref)
    by_key = {one.key: one for one in thresholds}
    for key, to in moves.items():
        if key not in by_key:
            raise UsageError(
                f"there is no threshold {key[:80]!r} behind {ref}; there are {', '.join(by_key) or 'none'}"
            )
        if to != to or abs(to) == float("inf"):
            raise UsageError(f"{key} cannot be moved to {to}; give a number")
    members = places(reader, ref)
    gone = np.zeros(len(members), dtype=bool)
    told: list[Move] = []
    kept_lines: list[list[RowLine]] = []
    dropped_lines: list[list[RowLine]] = []
    coming: list[tuple[list[str], Array]] = []
    came = 0
    for group in _groups(thresholds, moves):
        manifest = reader.manifest(DatasetRef.parse(group[0].ref))
        role = group[0].role
        before, after, distance = decided(reader, manifest, group, moves)
        new, lost = after & ~before, before & ~after
        of = dict(manifest.step.inputs)[role]
        where = places(reader, of)
        table = laid_out(reader, where, lost, False)
        carry(reader, table, manifest.ref, ref, False)
        gone |= members.gather(table, False)
        fresh = np.flatnonzero(new)
        names, codes = facet(reader, where.at(fresh), "source")
        coming.append((names, codes))
        came += len(fresh)
        told += [
            Move(
                key=one.key, to=moves[one.key], kept_before=int(before.sum()), kept_after=int(after.sum()),
                newly_kept=int(new.sum()), newly_dropped=int(lost.sum()),
            )
            for one in group if one.key in moves
        ]  # fmt: skip
        kept_lines.append(_nearest(reader, manifest, role, of, fresh, distance, shown))
        dropped_lines.append(_nearest(reader, manifest, role, of, np.flatnonzero(lost), distance, shown))
    columns = columns_of(reader, ref)
    held: list[Bound] = []
    for key, (low, high) in bounds.items():
        bound, outside, lines = _bounded(reader, ref, members, columns, key, low, high, shown)
        gone |= outside
        held.append(bound)
        dropped_lines.append(lines)
    before_rows, after_rows = len(members), int(len(members) - gone.sum())
    may_come = came
    return WhatIf(
        ref=str(ref),
        tag=tag_of(reader, ref, prefer=named),
        thresholds=thresholds,
        fixed=fixed,
        moves=tuple(told),
        bounds=tuple(held),
        columns=tuple(column.key for column in columns),
        before=before_rows,
        after_low=after_rows,
        after_high=after_rows + may_come,
        parts=_parts(reader, ref, gone, coming),
        newly_kept=_in_turn(kept_lines, shown),
        newly_dropped=_in_turn(dropped_lines, shown),
        says=_says(told, held, by_key, before_rows, after_rows, may_come),
    )


def _nearest(
    reader: Reader, manifest: Manifest, role: str, of: DatasetRef, at: Array, distance: Array, shown: int
) -> list[RowLine]:
    """The rows nearest to the new threshold as lines with the verdict they got."""
    if not shown or not len(at):
        return []
    if len(at) > shown:
        at = at[np.argpartition(distance[at], shown - 1)[:shown]]
    at = at[np.lexsort((at, distance[at]))]
    judge = np.zeros(len(at), dtype=np.uint16)
    asked = Chosen(of, len(at), places(reader, of).at(at), at, judge, judges=(Judge(manifest, role, of),))
    step = step_view(manifest)
    return [line.model_copy(update={"step": step}) for line in lines_of(reader, asked, 0, shown)]


def _in_turn(found: Sequence[Sequence[RowLine]], shown: int) -> tuple[RowLine, ...]:
    """Rows of every step that was moved, one of each in turn; a row that two of them name stands once."""
    lines = [one for row in zip_longest(*found) for one in row if one is not None]
    return tuple({line.id: line for line in reversed(lines)}[id_] for id_ in dict.fromkeys(line.id for line in lines))[
        :shown
    ]


def _parts(reader: Reader, ref: DatasetRef, gone: Array, coming: list[tuple[list[str], Array]]) -> tuple[Part, ...]:
    names, codes = facet(reader, places(reader, ref), "source")
    before = np.bincount(codes, minlength=len(names))
    lost = np.bincount(codes[gone], minlength=len(names))
    rows: dict[str, list[int]] = {
        name: [int(b), int(b - x), 0] for name, b, x in zip(names, before, lost, strict=True) if b
    }
    for others, numbers in coming:
        for name, count in zip(others, np.bincount(numbers, minlength=len(others)), strict=True):
            if count:
                rows.setdefault(name, [0, 0, 0])[2] += int(count)
    parts = [Part(source=name, before=b, after=a, may_come=m) for name, (b, a, m) in rows.items()]
    return tuple(sorted(parts, key=lambda part: (-part.before, -part.may_come, part.source)))


def _groups(thresholds: Sequence[Threshold], moves: Mapping[str, float]) -> list[list[Threshold]]:
    """All thresholds of each judged input of which one is moved, in the order of the steps."""
    found: dict[str, list[Threshold]] = {}
    for one in thresholds:
        found.setdefault(one.group, []).append(one)
    return [group for group in found.values() if any(one.key in moves for one in group)]


def _bounded(
    reader: Reader,
    ref: DatasetRef,
    members: Places,
    columns: Sequence[Column],
    key: str,
    low: float | None,
    high: float | None,
    shown: int,
) -> tuple[Bound, Array, list[RowLine]]:
    """A bound, the members outside it, and the nearest of those as lines."""
    column = column_named(columns, key)
    if low is not None and high is not None and low > high:
        raise UsageError(f"{key} cannot lie from {number(low)} to {number(high)}; give the lower bound first")
    values = scores_at(reader, column, members, ref)
    scored = np.isfinite(values)
    bottom, top = (
        np.float32(-np.inf if low is None else low),
        np.float32(np.inf if high is None else high),
    )
    with np.errstate(invalid="ignore"):
        outside = scored & ((values < bottom) | (values > top))
        distance = np.minimum(np.abs(values - bottom), np.abs(values - top))
    some = values[scored].astype(np.float64)
    plot = None
    if some.size:
        ends = (float(some.min()), float(some.max()))
        edges = np.linspace(ends[0], ends[1] if ends[1] > ends[0] else ends[0] + 1.0, figures.BINS + 1)
        inside = ~outside[scored]
        plot = Histogram(
            ref=str(ref), stage=column.stage, method=column.method, name=column.name, edges=tuple(map(float, edges)),
            kept=tuple(int(n) for n in np.histogram(some[inside], edges)[0]),
            dropped=tuple(int(n) for n in np.histogram(some[~inside], edges)[0]),
        )  # fmt: skip
    bound = Bound(
        key=column.key, stage=column.stage, method=column.method, low=low, high=high,
        lowest=float(some.min()) if some.size else None, highest=float(some.max()) if some.size else None,
        drops=int(outside.sum()), unscored=int((~scored).sum()), histogram=plot,
    )  # fmt: skip
    at = np.flatnonzero(outside)
    if not shown or not len(at):
        return bound, outside, []
    at = at[np.lexsort((at, distance[at]))][:shown]
    asked = Chosen(ref, len(at), members.at(at), at)
    return bound, outside, lines_of(reader, asked, 0, shown, [column])


def _says(
    moves: list[Move], bounds: list[Bound], by_key: Mapping[str, Threshold], before: int, low: int, may_come: int
) -> str:
    held = [one for one in bounds if one.low is not None or one.high is not None]
    if not moves and not held:
        return "No threshold was moved"
    told = [f"{by_key[m.key].rule} {number(by_key[m.key].threshold)} → {number(m.to)}" for m in moves]
    for one in held:
        ends = [
            *([f"from {number(one.low)}"] if one.low is not None else []),
            *([f"up to {number(one.high)}"] if one.high is not None else []),
        ]
        told.append(f"{one.key} {' '.join(ends)}")
    size = f"{low:,}" if not may_come else f"between {low:,} and {low + may_come:,}"
    return f"{', '.join(told)}: {before:,} rows would be {size}"
