"""Which rows match a question, in which order: arrays in, arrays out; texts are read for one page only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.errors import StoreError, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.layout import EDIT, KEEP, QUARANTINE, REJECT
from storage.questions.dense import (
    Array,
    Column,
    Places,
    column_named,
    facet,
    places,
    scores_at,
    threshold_rules,
    verdict_arrays,
)
from storage.questions.fallen import Fallen, dropped_any, fallen
from storage.questions.search import search
from storage.questions.views import Damage
from storage.seek import Reader, legible, role_part

FATE_NUMBERS = {"keep": KEEP, "reject": REJECT, "edit": EDIT, "quarantine": QUARANTINE}


@dataclass(frozen=True)
class Judge:
    """A judged input of a step, whose verdicts stand behind chosen rows."""

    manifest: Manifest
    role: str
    of: DatasetRef


@dataclass
class Some:
    """One page of rows: where they live, their positions and the verdicts that name them."""

    places: list[tuple[DatasetRef, int]]
    positions: list[int]
    judges: list[tuple[Manifest, dict[str, Any]]] = field(default_factory=list)
    within: DatasetRef | None = None

    def scores(self, reader: Reader, columns: Sequence[Column]) -> list[dict[str, float | None]]:
        """The columns' values of each row."""
        homes = tuple(dict.fromkeys(home for home, _ in self.places))
        number = {home: i for i, home in enumerate(homes)}
        where = Places(
            homes,
            np.array([number[home] for home, _ in self.places], dtype=np.uint16),
            np.array([row for _, row in self.places], dtype=np.uint32),
        )
        told: list[dict[str, float | None]] = [{} for _ in self.places]
        for column in columns:
            if self.within is not None:
                for i, value in enumerate(scores_at(reader, column, where, self.within).tolist()):
                    told[i][column.key] = None if value != value else float(value)
        return told


@dataclass
class Chosen:
    """Rows that match, in order. Without arrays it is every member of ``of``, by position."""

    of: DatasetRef
    size: int
    where: Places | None = None
    positions: Array | None = None
    judge: Array | None = None  # number into judges
    rule: Array | None = None  # of the verdict, as it names it
    score: Array | None = None  # of the verdict, NaN for none
    judges: Sequence[Judge] = ()
    many: bool = False  # several steps may have judged
    rules: tuple[str, ...] = ()
    damage: tuple[Damage, ...] = ()  # steps that could not be read; their rows are missing
    whole: bool = True
    looked: int | None = None
    of_all: int | None = None
    everything: Places | None = None  # what matches, where only the first rows of it were put in order

    def __len__(self) -> int:
        return self.size

    def sources(self, reader: Reader) -> tuple[tuple[str, int], ...]:
        """How many of them each source has, most first."""
        matched = self.everything or self.where
        if matched is None or not self.size:
            return ()
        names, codes = facet(reader, matched, "source")
        counts = np.bincount(codes, minlength=len(names))
        told = [(name, int(count)) for name, count in zip(names, counts, strict=True) if count]
        return tuple(sorted(told, key=lambda pair: (-pair[1], pair[0])))

    def page(self, reader: Reader, start: int, limit: int) -> Some:
        """A stretch of them."""
        if self.where is None or self.positions is None:
            found = reader.members(self.of, start, limit)
            return Some(found, list(range(start, start + len(found))), within=self.of)
        where, positions = self.where.at(slice(start, start + limit)), self.positions[start : start + limit].tolist()  # type: ignore[arg-type]
        found = [(where.homes[home], int(row)) for home, row in zip(where.home, where.row, strict=True)]
        some = Some(found, positions, within=self.of)
        if self.judge is not None:
            numbers = self.judge[start : start + limit].tolist()
            told: dict[int, tuple[Manifest, dict[str, Any]]] = {}
            for number in set(numbers):
                judge = self.judges[number]
                at = [i for i, n in enumerate(numbers) if n == number]
                frame = reader.rows(judge.manifest.ref, f"verdicts/{judge.role}", [positions[i] for i in at])
                told |= {i: (judge.manifest, row) for i, row in zip(at, frame.to_dicts(), strict=True)}
            some.judges = [told[i] for i in range(len(numbers))]
        return some


def is_plain(asked: Chosen) -> bool:
    """Whether it is simply every member: nothing was filtered or ordered."""
    return asked.where is None


def chosen(
    reader: Reader,
    manifest: Manifest,
    fate: str,
    role: str | None,
    rule: str | None,
    columns: Sequence[Column],
    *,
    source: str | None = None,
    license: str | None = None,
    text: str | None = None,
    order: str = "position",
    where: Mapping[str, tuple[float | None, float | None]],
    limit: int = 0,
) -> Chosen:
    """The rows of one question; see ``storage/questions/rows.py`` for what may be asked. ``limit`` rows will be shown."""
    plain = fate == "member" and not (source is not None or license is not None or text or where)
    if plain and order == "position":
        return Chosen(manifest.ref, manifest.counts.rows_out)
    asked = _candidates(reader, manifest, fate, role, rule)
    assert asked.where is not None
    keep = np.ones(len(asked), dtype=bool)
    for name, wanted in (("source", source), ("license", license)):
        if wanted is not None:
            names, codes = facet(reader, asked.where, name)
            keep &= (codes == names.index(wanted)) if wanted in names else False
    for key, (low, high) in where.items():
        values = _values(reader, asked, columns, key)
        with np.errstate(invalid="ignore"):
            keep &= ~np.isnan(values)
            if low is not None:
                keep &= values >= np.float32(low)
            if high is not None:
                keep &= values <= np.float32(high)
    asked = _only(asked, np.flatnonzero(keep)) if not keep.all() else asked
    if text:
        assert asked.where is not None
        own = fate == "member" and reader.has(manifest.ref, "train") and asked.positions is not None
        found = search(reader, asked.where, text, published=(manifest.ref, asked.positions) if own else None)  # type: ignore[arg-type]
        asked = _only(asked, np.flatnonzero(found.hits))
        asked.whole, asked.looked, asked.of_all = found.whole, found.seen, found.rows
    return _ordered(reader, asked, columns, order, limit)


def _candidates(reader: Reader, manifest: Manifest, fate: str, role: str | None, rule: str | None) -> Chosen:
    if fate == "member":
        where = places(reader, manifest.ref)
        return Chosen(manifest.ref, len(where), where, np.arange(len(where)))
    if fate == "dropped":
        return _dropped(reader, manifest, rule)
    assert role is not None
    of = dict(manifest.step.inputs)[role]
    fates, rules, scores = verdict_arrays(reader, manifest, role)
    hit = fates == FATE_NUMBERS[fate]
    if rule is not None:
        hit &= rules == [one.name for one in manifest.rules].index(rule) + 1
    at = np.flatnonzero(hit)
    judge = np.zeros(len(at), dtype=np.uint16)
    judges = (Judge(manifest, role, of),)
    return Chosen(of, len(at), places(reader, of).at(at), at, judge, rules[at], scores[at], judges)


def _dropped(reader: Reader, manifest: Manifest, rule: str | None) -> Chosen:
    """Every row that any step on the way to a version rejected or quarantined, in the order of the steps."""
    judges: list[Judge] = []
    names: dict[str, None] = {}
    found: list[Fallen] = []
    damage: list[Damage] = []
    for step in reader.store.upstream(manifest.ref):
        if not any(i.rejected or i.quarantined for i in step.counts.inputs):
            continue
        names |= dict.fromkeys(name for name, count in step.reasons.items() if count)
        own = [one.name for one in step.rules]
        if rule is not None and rule not in own:
            continue
        for role, of in step.step.inputs:
            if role_part(step, role) is None or not dropped_any(step, role):
                continue
            try:
                with legible(str(step.ref)):
                    fell = fallen(reader, step, role)
            except StoreError as error:
                damage.append(Damage(place=str(step.ref), problem=str(error)))
                continue
            judges.append(Judge(step, role, of))
            found.append(fell if rule is None else fell.only(fell.rule == own.index(rule) + 1))
    if rule is not None and rule not in names:
        raise UsageError(f"no step before {manifest.ref} has a rule {rule[:80]!r} that dropped a row")
    homes = tuple(dict.fromkeys(home for fell in found for home in fell.where.homes)) or (manifest.ref,)
    number = {home: np.uint16(i) for i, home in enumerate(homes)}
    home = [np.array([number[h] for h in fell.where.homes], dtype=np.uint16)[fell.where.home] for fell in found]
    judge = [np.full(len(fell), i, dtype=np.uint16) for i, fell in enumerate(found)]
    where = Places(homes, _joined(home, np.uint16), _joined([fell.where.row for fell in found], np.uint32))
    return Chosen(
        manifest.ref,
        len(where),
        where,
        _joined([fell.at for fell in found], np.uint32),
        _joined(judge, np.uint16),
        _joined([fell.rule for fell in found], np.uint16),
        _joined([fell.score for fell in found], np.float32),
        judges,
        many=True,
        rules=tuple(names),
        damage=tuple(damage),
    )


def _joined(arrays: Sequence[Array], kind: Any) -> Array:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=kind)


def _only(asked: Chosen, at: Array) -> Chosen:
    assert asked.where is not None
    assert asked.positions is not None
    asked.where, asked.positions, asked.size = asked.where.at(at), asked.positions[at], len(at)
    asked.judge, asked.rule, asked.score = (
        None if column is None else column[at] for column in (asked.judge, asked.rule, asked.score)
    )
    return asked


def _values(reader: Reader, asked: Chosen, columns: Sequence[Column], key: str) -> Array:
    """The values of a score for what is asked: ``score`` is that of the verdict itself."""
    assert asked.where is not None
    assert asked.positions is not None
    if key == "score" and asked.score is not None:
        return asked.score
    return scores_at(reader, column_named(columns, key), asked.where, asked.of)


def _margins(asked: Chosen) -> Array:
    """How far each score lies from its rule's threshold, as a share of the threshold's size; NaN without one."""
    assert asked.judge is not None
    assert asked.rule is not None
    assert asked.score is not None
    found = np.full(len(asked), np.nan, dtype=np.float32)
    for number, judge in enumerate(asked.judges):
        drawn = {number: threshold for number, threshold, _ in threshold_rules(judge.manifest)}
        if not drawn:
            continue
        cut = np.array([drawn.get(n, np.nan) for n in range(len(judge.manifest.rules) + 1)], dtype=np.float64)
        if len(drawn) == 1:
            cut[0] = next(iter(drawn.values()))  # a kept row names no rule; its score can only belong to the only one
        mine = np.flatnonzero(asked.judge == number)
        thresholds = cut[asked.rule[mine]]
        with np.errstate(invalid="ignore"):
            found[mine] = np.abs(asked.score[mine] - thresholds) / np.maximum(np.abs(thresholds), 1e-9)
    return found


def _ordered(reader: Reader, asked: Chosen, columns: Sequence[Column], order: str, limit: int) -> Chosen:
    key, down = order.removeprefix("-"), order.startswith("-")
    if key == "position":
        if not down:
            return asked
        return _only(asked, np.arange(len(asked))[::-1])
    if key == "margin":
        if asked.judge is None:
            raise UsageError("members have no margin; order them by a score, or look at what a step dropped")
        values = _margins(asked)
    else:
        values = _values(reader, asked, columns, key)
    ranked = np.where(np.isnan(values), np.inf, -values if down else values)
    size, everything = len(asked), asked.where
    if 0 < limit < size // 8:  # the first rows need no order of all: those up to the value of the last one do
        last = np.partition(ranked, limit - 1)[limit - 1]
        first = np.flatnonzero(ranked <= last)
        asked = _only(asked, first[np.argsort(ranked[first], kind="stable")])
    else:
        asked = _only(asked, np.argsort(ranked, kind="stable"))
    asked.size, asked.everything = size, everything
    return asked
