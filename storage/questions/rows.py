"""The rows behind a number: members of a version, or what its judges kept, dropped or edited, a page at a time."""

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from schemas.errors import MissingDataset, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.questions.choice import Chosen, Some, chosen, is_plain
from storage.questions.dense import Column, columns_of
from storage.questions.figures import refusals
from storage.questions.kin import refused_view
from storage.questions.views import Damage, RefusedView, StepView, Verdict, View
from storage.questions.words import preview, short, step_view, verdict_of
from storage.seek import Reader, legible, role_part
from storage.store import Store

Fate = Literal["member", "keep", "reject", "edit", "quarantine", "dropped", "refused"]

#: A range of a score: lowest and highest value that may stay, None for no bound.
Range = tuple[float | None, float | None]


class RowLine(View):
    """An example as one line of a table."""

    position: int
    id: str
    source: str
    license: str | None
    synthetic_depth: int
    prompt: str
    answer: str
    verdict: Verdict | None = None
    step: StepView | None = None  # the step that dropped it, where several may have
    scores: Mapping[str, float | None] = {}  # the columns asked for


class Condition(View):
    """A filter on a score."""

    key: str
    low: float | None
    high: float | None


class RowsPage(View):
    """Some of the rows that match. ``total`` is None while a text search has not seen all of them."""

    ref: str
    of: str  # the version whose members are listed
    fate: Fate
    role: str | None
    rule: str | None
    source: str | None
    license: str | None
    text: str | None
    order: str
    where: tuple[Condition, ...]
    start: int
    total: int | None
    matched: int  # rows known to match
    looked: int | None = None  # examples a text search has seen so far, None without one
    of_all: int | None = None  # examples it has to see
    rows: tuple[RowLine, ...]
    refused: tuple[RefusedView, ...] = ()
    next: int | None  # where the next page starts, None at the end
    rules: tuple[str, ...]  # what `rule` may be
    roles: tuple[str, ...]  # what `role` may be
    columns: tuple[Column, ...] = ()  # scores to show, filter and order by
    shown: tuple[str, ...] = ()  # keys of the scores that the lines carry
    damage: tuple[Damage, ...] = ()  # steps that could not be read; their rows are missing
    sources: tuple[tuple[str, int], ...] = ()  # where a filter or an order had to look at all: rows by source


def rows(
    store: Store,
    version: DatasetRef | str,
    *,
    fate: Fate = "member",
    role: str | None = None,
    rule: str | None = None,
    source: str | None = None,
    license: str | None = None,
    text: str | None = None,
    order: str = "position",
    where: Mapping[str, Range] | None = None,
    start: int = 0,
    limit: int = 50,
) -> RowsPage:
    """Rows of a ref or tag.

    ``fate`` other than ``member`` asks for rows of its input ``role`` with that verdict; ``dropped`` for all that any
    step before it dropped. ``text`` looks for a passage in any turn, letter case aside; ``where`` holds ranges of scores.
    ``order`` is ``position``, ``margin`` (nearest to the threshold first), ``score`` or the key of a score, highest
    first with a minus before it. Raises ``UsageError`` for a rule, role, score or order it does not have.
    """
    reader = Reader(store)
    ref = store.resolve(version) if isinstance(version, str) else version
    manifest = reader.manifest(ref)
    judged = [r for r, _ in manifest.step.inputs if role_part(manifest, r)]
    names = tuple(r.name for r in manifest.rules)
    if rule is not None and rule not in names and fate not in ("refused", "dropped"):
        raise UsageError(f"{ref} has no rule {rule[:80]!r}; it has {', '.join(names) or 'none'}")
    if fate not in ("member", "refused", "dropped") and not judged:
        raise UsageError(f"{ref} judges nothing; look at its members")
    if role is not None and role not in judged:
        raise UsageError(f"{ref} does not judge {role[:80]!r}; it judges {', '.join(judged) or 'nothing'}")
    limit = max(1, min(limit, 500))
    start = max(0, start)
    if fate == "refused":
        return _refused(reader, manifest, rule, start, limit, names, tuple(judged))
    one = role or (judged[0] if judged else None)
    with legible(f"rows of {ref}"):
        columns = columns_of(reader, ref if fate in ("member", "dropped") else dict(manifest.step.inputs)[one or ""])
        asked = chosen(
            reader, manifest, fate, one, rule, columns,
            source=source, license=license, text=text, order=order, where=where or {}, limit=start + limit,
        )  # fmt: skip
        shown = _shown(columns, order, where or {})
        lines = lines_of(reader, asked, start, limit, shown)
    more = start + limit < len(asked)
    if fate == "dropped":
        names = asked.rules
    return RowsPage(
        ref=str(ref),
        of=str(asked.of),
        fate=fate,
        role=None if fate in ("member", "dropped") else one,
        rule=rule,
        source=source,
        license=license,
        text=text,
        order=order,
        where=tuple(Condition(key=key, low=low, high=high) for key, (low, high) in (where or {}).items()),
        start=start,
        total=len(asked) if asked.whole else None,
        matched=len(asked),
        looked=asked.looked,
        of_all=asked.of_all,
        rows=tuple(lines),
        next=start + limit if more else None,
        rules=names,
        roles=tuple(judged),
        damage=asked.damage,
        columns=columns,
        shown=tuple(column.key for column in shown),
        sources=() if is_plain(asked) else asked.sources(reader),
    )


def _shown(columns: Sequence[Column], order: str, where: Mapping[str, Range], most: int = 5) -> tuple[Column, ...]:
    """The scores that a line carries: those the question names, then one of each step, the latest first."""
    named = {order.removeprefix("-"), *where}
    if any(column.stage == "losses" and column.key in named for column in columns):
        named |= {column.key for column in columns if column.stage == "losses"}  # before and after say little alone
    first = [column for column in columns if column.key in named]
    room = most - len(first)
    latest = [c for c in reversed(columns) if c.key not in named and (c.name == "score" or "." not in c.key)]
    chosen_ = {column.key for column in (*first, *latest[: max(0, room)])}
    return tuple(column for column in columns if column.key in chosen_)


def lines_of(reader: Reader, asked: Chosen, start: int, limit: int, columns: Sequence[Column] = ()) -> list[RowLine]:
    """A stretch of what was chosen as lines, with verdicts, evidence and the scores of ``columns``."""
    some = asked.page(reader, start, limit)
    if not some.places:
        return []
    wanted = ("id", "source", "license", "synthetic_depth", "messages")
    examples = reader.examples(some.places, wanted)
    values = some.scores(reader, columns)
    lines: list[RowLine] = []
    for i, example in enumerate(examples):
        turns = [turn for turn in example["messages"] or () if turn["role"] != "system"]
        lines.append(
            RowLine(
                position=some.positions[i],
                id=example["id"].hex(),
                source=example["source"] or "",
                license=example["license"],
                synthetic_depth=example["synthetic_depth"] or 0,
                prompt=preview(turns[0]["content"] or "", 140) if turns else "",
                answer=preview(turns[-1]["content"] or "", 140) if len(turns) > 1 else "",
                verdict=_verdict(some, i),
                step=step_view(some.judges[i][0]) if some.judges and asked.many else None,
                scores={key: short(value) for key, value in values[i].items()},
            )
        )
    return lines


def _verdict(some: Some, i: int) -> Verdict | None:
    if not some.judges:
        return None
    manifest, stored = some.judges[i]
    return verdict_of(stored["fate"], stored["rule"], stored["score"], stored["evidence"], manifest.rules)


def _refused(
    reader: Reader,
    manifest: Manifest,
    reason: str | None,
    start: int,
    limit: int,
    names: tuple[str, ...],
    roles: tuple[str, ...],
) -> RowsPage:
    if not manifest.parts.get("refused"):
        raise MissingDataset(f"{manifest.ref} refused nothing")
    counts = dict(refusals(reader, manifest))
    table = reader.scan(manifest.ref, "refused")
    if reason is not None:
        table = table.filter(pl.col("reason") == reason)
    total = counts.get(reason, 0) if reason is not None else sum(counts.values())
    frame = table.slice(start, limit).collect()
    return RowsPage(
        ref=str(manifest.ref),
        of=str(manifest.ref),
        fate="refused",
        role=None,
        rule=reason,
        source=None,
        license=None,
        text=None,
        order="position",
        where=(),
        start=start,
        total=total,
        matched=total,
        rows=(),
        refused=tuple(refused_view(row) for row in frame.to_dicts()),
        next=start + limit if start + limit < total else None,
        rules=tuple(counts) or names,
        roles=roles,
    )
