"""What if a threshold had been another one? Counts, composition and rows, from stored scores alone; no step runs."""

from collections.abc import Mapping

import numpy as np

from schemas.errors import StoreError, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage import figures
from storage.choice import Chosen, Judge
from storage.dense import Array, carry, facet, laid_out, places, threshold_rules, verdict_arrays
from storage.find import tag_of
from storage.layout import KEEP, REJECT
from storage.rows import RowLine, lines_of
from storage.seek import Reader, legible, role_part
from storage.store import Store
from storage.views import Histogram, View
from storage.words import method_tag, number

#: Rows shown of each kind, the ones nearest to the threshold first.
SHOWN = 12

NOT_RERUN = (
    "Only stored scores are looked at. Later steps are not run again: rows that would come back have no verdict from "
    "them, so the size of the new version is an interval; a selection that keeps a fixed number would fill up again."
)


class Threshold(View):
    """A threshold that can be moved, and where it stands."""

    key: str  # "clear", with the step's first digits where two steps would share it
    ref: str
    stage: str
    method: str
    rule: str
    says: str
    role: str
    threshold: float
    direction: str
    scored: int  # rows whose fate the threshold decided
    low: float
    high: float
    histogram: Histogram


class Fixed(View):
    """A threshold that cannot be moved after the fact, and why."""

    ref: str
    rule: str
    why: str


class Move(View):
    """What moving one threshold does at its own step."""

    key: str
    to: float
    kept_before: int
    kept_after: int
    newly_kept: int
    newly_dropped: int


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
    before: int
    after_low: int
    after_high: int
    parts: tuple[Part, ...]
    newly_kept: tuple[RowLine, ...]
    newly_dropped: tuple[RowLine, ...]
    says: str
    note: str = NOT_RERUN


def what_if(
    store: Store, version: DatasetRef | str, moves: Mapping[str, float] | None = None, *, shown: int = SHOWN
) -> WhatIf:
    """The version, had the thresholds in ``moves`` (by key) been these; without moves, what can be moved.

    ``shown`` rows of each kind are read, none for the counts alone.

    Raises ``UsageError`` for a key it does not have or a threshold that is no number.
    """
    reader = Reader(store)
    ref = store.resolve(version) if isinstance(version, str) else version
    with legible(f"the thresholds behind {ref}"):
        return _what_if(reader, ref, version if isinstance(version, str) else None, dict(moves or {}), shown)


def _what_if(reader: Reader, ref: DatasetRef, named: str | None, moves: dict[str, float], shown: int) -> WhatIf:
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
    kept_lines: list[RowLine] = []
    dropped_lines: list[RowLine] = []
    coming: list[tuple[list[str], Array]] = []
    for key, to in moves.items():
        one = by_key[key]
        manifest = reader.manifest(DatasetRef.parse(one.ref))
        before, after, distance = decided(reader, manifest, one, to)
        new, lost = after & ~before, before & ~after
        of = dict(manifest.step.inputs)[one.role]
        where = places(reader, of)
        table = laid_out(reader, where, lost, False)
        carry(reader, table, manifest.ref, ref, False)
        gone |= members.gather(table, False)
        fresh = np.flatnonzero(new)
        names, codes = facet(reader, where.at(fresh), "source")
        coming.append((names, codes))
        told.append(
            Move(
                key=key, to=to, kept_before=int(before.sum()), kept_after=int(after.sum()),
                newly_kept=int(new.sum()), newly_dropped=int(lost.sum()),
            )
        )  # fmt: skip
        kept_lines += _nearest(reader, manifest, one.role, of, fresh, distance, shown)
        dropped_lines += _nearest(reader, manifest, one.role, of, np.flatnonzero(lost), distance, shown)
    before_rows, after_rows = len(members), int(len(members) - gone.sum())
    may_come = sum(move.newly_kept for move in told)
    return WhatIf(
        ref=str(ref),
        tag=tag_of(reader, ref, prefer=named),
        thresholds=thresholds,
        fixed=fixed,
        moves=tuple(told),
        before=before_rows,
        after_low=after_rows,
        after_high=after_rows + may_come,
        parts=_parts(reader, ref, gone, coming),
        newly_kept=tuple(kept_lines[:shown]),
        newly_dropped=tuple(dropped_lines[:shown]),
        says=_says(told, by_key, before_rows, after_rows, may_come),
    )


def movable(reader: Reader, ref: DatasetRef) -> tuple[tuple[Threshold, ...], tuple[Fixed, ...]]:
    """Thresholds on the way to a version: those whose every score is stored, and those that several rules share."""
    found: list[Threshold] = []
    fixed: list[Fixed] = []
    for manifest in reader.store.upstream(ref):
        try:
            with legible(str(manifest.ref)):
                moving, staying = _of_step(reader, manifest)
        except StoreError as error:
            moving, staying = [], [Fixed(ref=str(manifest.ref), rule="", why=str(error))]
        found += moving
        fixed += staying
    keys = [one.key for one in found]
    return tuple(
        one if keys.count(one.key) == 1 else one.model_copy(update={"key": f"{one.key}-{one.ref[-16:][:6]}"})
        for one in found
    ), tuple(fixed)


def _of_step(reader: Reader, manifest: Manifest) -> tuple[list[Threshold], list[Fixed]]:
    drawn = threshold_rules(manifest)
    found: list[Threshold] = []
    fixed: list[Fixed] = []
    if not drawn:
        return found, fixed
    if len(drawn) > 1:
        why = "several rules with thresholds share one score; which of them a kept row's score belongs to is not stored"
        fixed += [Fixed(ref=str(manifest.ref), rule=manifest.rules[n - 1].name, why=why) for n, _, _ in drawn]
        return [], fixed
    rule, threshold, direction = drawn[0]
    plots = {one.name: one for one in figures.histograms(reader, manifest)}
    judged = [role for role, _ in manifest.step.inputs if role_part(manifest, role)]
    for role in judged:
        several = len(judged) > 1
        plot = plots.get(f"score of {role}" if several else "score")
        if plot is None:
            why = "its step stored no scores"
            fixed.append(Fixed(ref=str(manifest.ref), rule=manifest.rules[rule - 1].name, why=why))
            continue
        found.append(
            Threshold(
                key=method_tag(manifest) + (f".{role}" if several else ""),
                ref=str(manifest.ref),
                stage=manifest.ref.stage,
                method=method_tag(manifest),
                rule=manifest.rules[rule - 1].name,
                says=manifest.rules[rule - 1].says,
                role=role,
                threshold=threshold,
                direction=direction,
                scored=sum(plot.kept) + sum(plot.dropped),
                low=plot.edges[0],
                high=plot.edges[-1],
                histogram=plot,
            )
        )
    return found, fixed


def decided(reader: Reader, manifest: Manifest, one: Threshold, to: float) -> tuple[Array, Array, Array]:
    """Which rows of the input stay before and after the move, and how far each score lies from the new threshold.

    Only rows whose fate the threshold decided move: kept rows with a score, and rows that this very rule rejected.
    A score equal to the threshold is kept if the step kept such a row, or if it met none.
    """
    fate, rule, score = verdict_arrays(reader, manifest, one.role)
    number_of = [r.name for r in manifest.rules].index(one.rule) + 1
    before = fate == KEEP
    free = np.isfinite(score) & (before | ((fate == REJECT) & (rule == number_of)))
    equal = free & (score == np.float32(one.threshold))
    inclusive = bool(before[equal].any()) or not equal.any()
    cut = np.float32(to)
    with np.errstate(invalid="ignore"):
        if one.direction == "keep-above":
            stays = score >= cut if inclusive else score > cut
        else:
            stays = score <= cut if inclusive else score < cut
        distance = np.abs(score - cut)
    after = np.where(free, stays, before) if to != one.threshold else before
    return before, after, distance


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
    asked = Chosen(of, len(at), places(reader, of).at(at), at, judge, (Judge(manifest, role, of),))
    return lines_of(reader, asked, 0, shown)


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


def _says(moves: list[Move], by_key: Mapping[str, Threshold], before: int, low: int, may_come: int) -> str:
    if not moves:
        return "No threshold was moved"
    told = [f"{by_key[m.key].rule} {number(by_key[m.key].threshold)} → {number(m.to)}" for m in moves]
    size = f"{low:,}" if not may_come else f"between {low:,} and {low + may_come:,}"
    return f"{', '.join(told)}: {before:,} rows would be {size}"
