"""Why are these examples not in that version? Each is followed through the other lineage to the rule that dropped it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.lineage import Manifest, Rule
from storage.questions.codes import Codes
from storage.questions.dense import Array, Places
from storage.questions.fallen import dropped_any, fallen, first_of_each
from storage.questions.find import Scope
from storage.questions.views import View
from storage.questions.words import method_tag, preview, short
from storage.seek import Reader, role_part

#: Rows shown for each reason; each costs the reading of a row group.
SHOWN = 5
NOT_USED = "it was read, not used"
NOT_THERE = "not among the examples of its sources and generators"


class AbsentRow(View):
    """One of the rows behind a count."""

    id: str
    preview: str
    source: str
    score: float | None = None


class Absence(View):
    """Rows that are absent for one reason."""

    says: str
    rows: int
    ref: str | None = None  # the step that dropped them
    stage: str | None = None
    method: str | None = None
    rule: str | None = None
    threshold: float | None = None
    direction: str = "none"
    some: tuple[AbsentRow, ...] = ()  # nearest to the threshold first


@dataclass(frozen=True)
class Apart:
    """Examples that one version holds and another does not: their numbers in order, and the place it holds each at."""

    numbers: Array
    lies: Array  # as ``Codes.places`` numbers places

    def only(self, chosen: Array) -> "Apart":
        """Some of them; ``chosen`` is flags or positions."""
        return Apart(self.numbers[chosen], self.lies[chosen])


@dataclass(frozen=True)
class _Reason:
    """Rows that are absent for one reason, not yet read."""

    absence: Absence
    lies: Array  # of the rows to show
    scores: Sequence[float | None]


def apart(codes: Codes, members: Places, others: Array) -> tuple[int, Apart]:
    """How many distinct examples the members are, and those of them that are not flagged in ``others``."""
    lies = codes.places(members)
    if codes.same is None:
        own = np.zeros(codes.size, dtype=bool)
        own[lies] = True
        left = np.flatnonzero(own & ~others)
        return int(own.sum()), Apart(left, left)
    numbers = codes.same[lies]
    place = np.full(codes.size, -1, dtype=np.int64)
    place[numbers[::-1]] = lies[::-1]  # of several places of one id the first member's
    left = np.flatnonzero((place >= 0) & ~others)
    return int((place >= 0).sum()), Apart(left, place[left])


def edit_pairs(
    reader: Reader, codes: Codes, manifests: Sequence[Manifest], gone: Apart, came: Apart
) -> tuple[Array, Array]:
    """Numbers of examples that went and of those that came instead: one edited into the other, or both from the same."""
    old, new = _edits(reader, codes, manifests)
    went, arrived = np.zeros(codes.size, dtype=bool), np.zeros(codes.size, dtype=bool)
    went[gone.numbers], arrived[came.numbers] = True, True
    edges = pl.DataFrame({"old": old, "new": new}).unique().sort("old", "new")
    old, new = edges["old"].to_numpy(), edges["new"].to_numpy()
    shared = edges.filter(pl.Series(went[new])).join(edges.filter(pl.Series(arrived[new])), on="old", suffix="_other")
    there, back = went[old] & arrived[new], went[new] & arrived[old]
    pairs = pl.concat(
        [
            pl.DataFrame({"gone": old[there], "came": new[there]}),
            pl.DataFrame({"gone": new[back], "came": old[back]}),
            shared.select(pl.col("new").alias("gone"), pl.col("new_other").alias("came")),
        ]
    )
    once = pairs.unique("gone", keep="first", maintain_order=True).unique("came", keep="first", maintain_order=True)
    return once["gone"].to_numpy(), once["came"].to_numpy()


def _edits(reader: Reader, codes: Codes, manifests: Sequence[Manifest]) -> tuple[Array, Array]:
    """Numbers of examples and of what some step edited them into."""
    old, new = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for manifest in {m.commit_id: m for m in manifests}.values():
        if not any(i.edited for i in manifest.counts.inputs) or "links" not in manifest.parts:
            continue
        links = reader.scan(manifest.ref, "links").select("row", "parents").collect()
        each = links.explode("parents", empty_as_null=False, keep_nulls=False)
        parents = each["parents"].struct.unnest()
        homes = tuple(manifest.homes) or (manifest.ref,)
        old.append(codes.of(Places(homes, parents["home"].to_numpy(), parents["row"].to_numpy())))
        own = each["row"].to_numpy()
        new.append(codes.of(Places((manifest.ref,), np.zeros(len(own), dtype=np.uint16), own)))
    return np.concatenate(old), np.concatenate(new)


def absences(reader: Reader, codes: Codes, sides: Sequence[tuple[Apart, Scope]]) -> tuple[tuple[Absence, ...], ...]:
    """For each side why its examples are not in the target of the scope: most rows first.

    Those whose home the other lineage knows are followed by place; the others by id, so that a source that was read
    anew still explains its rows. The rows to show are read together.
    """
    found = [_reasons(reader, codes, left, scope) for left, scope in sides]
    lies = [one.lies for reasons in found for one in reasons]
    where = codes.at(np.concatenate(lies) if lies else np.zeros(0, dtype=np.int64))
    places = [(where.homes[home], int(row)) for home, row in zip(where.home, where.row, strict=True)]
    examples = iter(reader.examples(places, ("id", "source", "messages")))
    told = [
        [
            one.absence.model_copy(
                update={
                    "some": tuple(_line(next(examples), score) for _, score in zip(one.lies, one.scores, strict=True))
                }
            )
            for one in reasons
        ]
        for reasons in found
    ]
    return tuple(tuple(sorted(_merged(reasons), key=lambda absence: -absence.rows)) for reasons in told)


def _line(example: dict[str, object], score: float | None) -> AbsentRow:
    messages = example["messages"] or ()
    spoken = next((turn["content"] for turn in messages if turn["role"] != "system"), "")  # type: ignore[union-attr]
    return AbsentRow(
        id=example["id"].hex(),  # type: ignore[attr-defined]
        preview=preview(spoken or ""),
        source=str(example["source"] or ""),
        score=short(score),
    )


def _merged(reasons: Sequence[Absence]) -> list[Absence]:
    """One of each: followed by place and followed by id may both have met a rule."""
    merged: dict[tuple[str | None, str | None, str], Absence] = {}
    for one in reasons:
        key = (one.ref, one.rule, one.says)
        held = merged.get(key)
        if held is not None:
            one = held.model_copy(update={"rows": held.rows + one.rows, "some": (*held.some, *one.some)[:SHOWN]})
        merged[key] = one
    return list(merged.values())


def _reasons(reader: Reader, codes: Codes, left: Apart, scope: Scope) -> list[_Reason]:
    known = np.array([home in scope.refs for home in codes.homes], dtype=bool)
    here = known[codes.at(left.lies).home] if len(left.lies) else np.zeros(0, dtype=bool)
    near, far = left.only(here), left.only(~here)
    found, unexplained = _followed(reader, codes, codes.places, near.lies, near, scope)
    found += _plain(near.only(unexplained), NOT_USED)
    if codes.same is None:
        return [*found, *_plain(far, NOT_THERE)]
    there = codes.held(scope.refs)[far.numbers]
    elsewhere = far.only(there)
    more, unexplained = _followed(reader, codes, codes.of, elsewhere.numbers, elsewhere, scope)
    return [*found, *more, *_plain(far.only(~there), NOT_THERE), *_plain(elsewhere.only(unexplained), NOT_USED)]


def _plain(rows: Apart, says: str) -> list[_Reason]:
    some = rows.lies[:SHOWN]
    return [_Reason(Absence(says=says, rows=len(rows.lies)), some, [None] * len(some))] if len(rows.lies) else []


def _followed(
    reader: Reader, codes: Codes, number: Callable[[Places], Array], wanted: Array, left: Apart, scope: Scope
) -> tuple[list[_Reason], Array]:
    """What dropped the examples of ``left``, and flags of those that nothing in scope dropped.

    ``wanted`` is each one's number as ``number`` gives it for places. Of several steps the first counts.
    """
    open_ = np.zeros(codes.size, dtype=np.uint32)  # where in ``left`` what is not explained yet stands, from 1
    open_[wanted] = np.arange(1, len(wanted) + 1)
    unexplained = np.ones(len(wanted), dtype=bool)
    found: list[_Reason] = []
    for manifest in scope.manifests if len(wanted) else ():
        for role, _ in manifest.step.inputs:
            if role_part(manifest, role) is None or not dropped_any(manifest, role):
                continue
            fell = fallen(reader, manifest, role)
            numbers = number(fell.where)
            hit = np.flatnonzero(open_[numbers])
            if not len(hit):
                continue
            hit = hit[first_of_each(open_[numbers[hit]], len(wanted))]
            at = open_[numbers[hit]].astype(np.int64) - 1
            open_[numbers[hit]] = 0
            unexplained[at] = False
            found += _by_rule(manifest, fell.rule[hit], fell.score[hit], left.lies[at])
    return found, unexplained


def _by_rule(manifest: Manifest, rule: Array, score: Array, lies: Array) -> list[_Reason]:
    found: list[_Reason] = []
    for number, rows in enumerate(np.bincount(rule)):
        if rows:
            one = manifest.rules[number - 1]
            mine = rule == number
            found.append(_reason(manifest, one, int(rows), score[mine], lies[mine]))
    return found


def _reason(manifest: Manifest, rule: Rule, rows: int, score: Array, lies: Array) -> _Reason:
    """The rows nearest to the threshold are shown; without one, those that lie first."""
    away = np.zeros(rows) if rule.threshold is None else np.abs(score.astype(np.float64) - rule.threshold)
    away = np.where(np.isnan(away), np.inf, away)
    some = np.arange(rows)
    if rows > SHOWN:
        some = np.flatnonzero(away <= np.partition(away, SHOWN - 1)[SHOWN - 1])
    some = some[np.lexsort((lies[some], away[some]))][:SHOWN]
    scores = [None if np.isnan(value) else float(value) for value in score[some]]
    absence = Absence(
        says=f"dropped at {manifest.ref.stage} {method_tag(manifest)}: {rule.says} ({rule.name})",
        rows=rows,
        ref=str(manifest.ref),
        stage=manifest.ref.stage,
        method=method_tag(manifest),
        rule=rule.name,
        threshold=rule.threshold,
        direction=rule.direction,
    )
    return _Reason(absence, lies[some], scores)
