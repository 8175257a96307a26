"""What changed between two versions? Rows that came and went, each with the rule that decided it; figures side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from schemas.lineage import DatasetRef, Manifest
from storage.questions import figures
from storage.questions.absent import Absence, absences, apart, edit_pairs
from storage.questions.codes import Codes
from storage.questions.deltas import Count, metric_deltas
from storage.questions.dense import places
from storage.questions.find import Scope, scope_of
from storage.questions.lasting import lasting
from storage.questions.remembered import arrays
from storage.questions.views import View
from storage.questions.words import counted, listed, method_tag, named, number, setting
from storage.seek import Reader, legible
from storage.store import Store


class Shift(View):
    """A score's distribution on both sides."""

    stage: str
    method: str
    name: str
    before_mean: float | None
    after_mean: float | None
    before_median: float | None
    after_median: float | None
    before_rows: int
    after_rows: int


class Change(View):
    """One difference between the two recipes, in words."""

    stage: str
    method: str
    says: str


class Diff(View):
    """From ``before`` to ``after``. Rows are examples by id; repeats of a mixture count once here."""

    before: str
    after: str
    before_tag: str | None
    after_tag: str | None
    sentence: str
    before_rows: int
    after_rows: int
    common: int
    added: int
    removed: int
    edited: int  # pairs of a removed and an added example, one made from the other
    why_added: tuple[Absence, ...]  # why they were not in ``before``
    why_removed: tuple[Absence, ...]  # why they are not in ``after``
    changes: tuple[Change, ...]
    sources: tuple[Count, ...]
    contamination: tuple[Count, ...]
    shifts: tuple[Shift, ...]
    metrics: tuple[Count, ...]
    counts: tuple[Count, ...]


def diff(store: Store, before: DatasetRef | str, after: DatasetRef | str) -> Diff:
    """The difference between two refs or tags, from the first to the second."""
    reader = Reader(store)
    with legible(f"the difference of {before} and {after}"):
        sides = [store.describe(store.resolve(one) if isinstance(one, str) else one) for one in (before, after)]
        below = [step.commit_id for side in sides for step in store.downstream(side.ref)]  # trainings come later
        tags = [f"{tag.name}@v{tag.number}" for tag in store.tags()]
        key = (str(store.root), "diff", str(before), str(after), *below, *tags)
        return arrays.of(key, lambda: lasting(reader, sides, key[1:], lambda: _diff(reader, before, after)))


def _diff(reader: Reader, before: DatasetRef | str, after: DatasetRef | str) -> Diff:
    old, new = scope_of(reader, before), scope_of(reader, after)
    a, b = old.manifests[-1], new.manifests[-1]
    codes = codes_of(reader, old, new)
    members = [places(reader, side.ref) for side in (a, b)]
    rows_a, gone = apart(codes, members[0], codes.flags(members[1]))
    rows_b, came = apart(codes, members[1], codes.flags(members[0]))
    went, arrived = edit_pairs(reader, codes, [*old.manifests, *new.manifests], gone, came)
    gone, came = (side.only(~np.isin(side.numbers, edited)) for side, edited in ((gone, went), (came, arrived)))
    why_removed, why_added = absences(reader, codes, [(gone, new), (came, old)])
    changes = config_changes(old.manifests, new.manifests)
    added, removed, edited = len(came.numbers), len(gone.numbers), len(went)
    return Diff(
        before=str(a.ref),
        after=str(b.ref),
        before_tag=old.tag,
        after_tag=new.tag,
        sentence=_sentence(old, new, added, removed, edited, why_removed, changes),
        before_rows=a.counts.rows_out,
        after_rows=b.counts.rows_out,
        common=rows_a - removed - edited,
        added=added,
        removed=removed,
        edited=edited,
        why_added=why_added,
        why_removed=why_removed,
        changes=changes,
        sources=_sources(reader, a, b),
        contamination=_contamination(reader, old, new),
        shifts=_shifts(reader, old, new),
        metrics=metric_deltas(reader.store, a, b),
        counts=(
            Count(name="rows", before=a.counts.rows_out, after=b.counts.rows_out),
            Count(name="distinct examples", before=rows_a, after=rows_b),
        ),
    )


def codes_of(reader: Reader, old: Scope, new: Scope) -> Codes:
    """Numbers of all examples of both lineages."""
    made = {m.ref: None for m in (*old.manifests, *new.manifests) if m.parts.get("examples")}
    return Codes(reader, tuple(made))


def _sentence(
    old: Scope, new: Scope, came: int, gone: int, edited: int, why: Sequence[Absence], changes: Sequence[Change]
) -> str:
    first, second = old.tag or str(old.target), new.tag or str(new.target)
    if not (came or gone or edited):
        same = f"{first} and {second} hold the same examples"
        return same + (f"; {listed(change.says for change in changes[:3])}" if changes else "")
    parts = [counted(came, "example") + " added", f"{gone:,} removed", f"{edited:,} edited"]
    told = f"From {first} to {second}: {', '.join(parts)}"
    if why:
        told += f"; most removals: {why[0].says} ({why[0].rows:,})"
    if changes:
        told += f"; changed: {listed(change.says for change in changes[:3])}"
    return told


def config_changes(before: Sequence[Manifest], after: Sequence[Manifest]) -> tuple[Change, ...]:
    """Differences of the steps: fields, source contents, models, seeds; steps that only one side has."""
    old, new = _by_place(before), _by_place(after)
    found: list[Change] = []
    for place, manifest in new.items():
        stage, method = place[0], place[1]
        if place not in old:
            found.append(Change(stage=stage, method=method, says=f"{named(stage, method)} is new"))
            continue
        says = _step_changes(old[place], manifest)
        found += [Change(stage=stage, method=method, says=f"{named(stage, method)}: {one}") for one in says]
    found += [
        Change(stage=place[0], method=place[1], says=f"{named(place[0], place[1])} is gone")
        for place in old
        if place not in new
    ]
    return tuple(found)


def _by_place(manifests: Sequence[Manifest]) -> dict[tuple[str, str, int], Manifest]:
    """Steps by stage, method and how-many-th of that kind: what is compared with what."""
    found: dict[tuple[str, str, int], Manifest] = {}
    for manifest in manifests:
        kind = (manifest.ref.stage, method_tag(manifest))
        found[(*kind, sum(1 for place in found if place[:2] == kind))] = manifest
    return found


def _step_changes(old: Manifest, new: Manifest) -> list[str]:
    says = [
        f"{name} {_side(old.step.method, name)} → {_side(new.step.method, name)}"
        for name in dict.fromkeys([*old.step.method, *new.step.method])
        if old.step.method.get(name) != new.step.method.get(name)
    ]
    for name in dict.fromkeys([*old.step.content, *new.step.content]):
        if old.step.content.get(name) != new.step.content.get(name):
            words = "its content" if name == "sha256" else name
            verb = (
                "is new" if name not in old.step.content else "is gone" if name not in new.step.content else "changed"
            )
            says.append(f"{words} {verb}")
    for name in dict.fromkeys([*old.step.backends, *new.step.backends]):
        if old.step.backends.get(name) != new.step.backends.get(name):
            says.append(f"{name} {setting(old.step.backends.get(name))} → {setting(new.step.backends.get(name))}")
    if old.step.rng_seed != new.step.rng_seed:
        says.append(f"rng_seed {old.step.rng_seed} → {new.step.rng_seed}")
    return says


def _side(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return "unset"
    value = fields[name]
    return "a text" if isinstance(value, str) and len(value) > 60 else setting(value)


def _sources(reader: Reader, a: Manifest, b: Manifest) -> tuple[Count, ...]:
    sides = [_by_source(reader, a), _by_source(reader, b)]
    names = sorted({*sides[0], *sides[1]}, key=lambda name: -max(side.get(name, 0) for side in sides))
    return tuple(Count(name=name, before=sides[0].get(name, 0), after=sides[1].get(name, 0)) for name in names)


def _by_source(reader: Reader, manifest: Manifest) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in figures.composition(reader, manifest):
        found[row.source] = found.get(row.source, 0) + row.rows
    return found


def _contamination(reader: Reader, old: Scope, new: Scope) -> tuple[Count, ...]:
    sides: list[dict[str, int]] = []
    for scope in (old, new):
        hits: dict[str, int] = {}
        for manifest in scope.manifests:
            for row in figures.contamination(reader, manifest):
                hits[row.benchmark] = hits.get(row.benchmark, 0) + row.hits
        sides.append(hits)
    names = sorted({*sides[0], *sides[1]})
    return tuple(Count(name=name, before=sides[0].get(name), after=sides[1].get(name)) for name in names)


def _shifts(reader: Reader, old: Scope, new: Scope) -> tuple[Shift, ...]:
    """Scores of steps that both sides have and that are not the same step."""
    first, second = _by_place(old.manifests), _by_place(new.manifests)
    found: list[Shift] = []
    for place in first:
        if place not in second or first[place].ref == second[place].ref:
            continue
        ones = {h.name: h for h in figures.histograms(reader, first[place])}
        others = {h.name: h for h in figures.histograms(reader, second[place])}
        found += [
            Shift(
                stage=place[0],
                method=place[1],
                name=name,
                before_mean=ones[name].mean,
                after_mean=others[name].mean,
                before_median=ones[name].median,
                after_median=others[name].median,
                before_rows=sum(ones[name].kept) + sum(ones[name].dropped),
                after_rows=sum(others[name].kept) + sum(others[name].dropped),
            )
            for name in ones
            if name in others
        ]
    return tuple(found)


def delta_words(count: Count) -> str:
    """``1.5 → 1.25 (-0.25)``; where the two are unlike, what else differs instead of a difference."""
    both = f"{number(count.before)} → {number(count.after)}"
    if count.unlike:
        return f"{both} (not compared: other {', other '.join(count.unlike)})"
    change = count.change
    return both if change is None else f"{both} ({'+' if change > 0 else ''}{number(change)})"
