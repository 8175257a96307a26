"""What is this version, how did it come to be, what did it cost and what did it do? One value for all who show it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import polars as pl

from schemas.errors import ProvenderError, StoreError
from schemas.lineage import DatasetRef, GateStatus, Manifest, TagVersion
from storage.questions import figures
from storage.questions.funnel import funnel, seconds_of
from storage.questions.row_losses import row_losses
from storage.questions.training import trainings
from storage.questions.views import (
    Check,
    Composition,
    Damage,
    FunnelRow,
    Money,
    TagView,
    VersionPage,
)
from storage.questions.words import counted, listed, step_view
from storage.seek import Reader
from storage.store import Store

T = TypeVar("T")

#: Stages that make no dataset for others to read.
READERS = ("finetune", "evaluate", "losses")


def show(store: Store, version: DatasetRef | str) -> VersionPage:
    """The page of a ref, tag or ``name@vN``.

    Reads manifests and the small columns of parts, never the text of all examples. What cannot be read is named under
    ``damage`` and leaves the rest standing; ``MissingDataset`` if there is no such version.
    """
    reader = Reader(store)
    ref = store.resolve(version) if isinstance(version, str) else version
    manifest = reader.manifest(ref)
    damage: list[Damage] = []
    up = _guarded(damage, str(ref), lambda: store.upstream(ref), [manifest])
    reader.know(up)
    down = _guarded(damage, str(ref), lambda: [m for m in store.downstream(ref) if m.ref != ref], [])
    tags = tags_of(store, ref)

    def each(what: Callable[[Reader, Manifest], Sequence[T]]) -> list[tuple[Manifest, Sequence[T]]]:
        return [(m, _guarded(damage, str(m.ref), lambda m=m: what(reader, m), ())) for m in up]

    uses = each(figures.money_by_model)
    money = {m.ref: figures.total([use.money for use in used]) for m, used in uses if used}
    refused = {m.ref: reasons for m, reasons in each(figures.refusals)}
    rows = funnel(up, refusals=refused, money=money)
    gate, checks = gate_of(manifest, up)
    composed = _guarded(damage, str(ref), lambda: figures.composition(reader, manifest), ())
    newest = tags[-1] if tags else None
    return VersionPage(
        ref=str(ref),
        headline=headline(newest, manifest, rows, composed, gate),
        tags=tuple(tag_view(tag) for tag in reversed(tags)),
        step=step_view(manifest),
        rows=manifest.counts.rows_out,
        words=words_of(manifest),
        digest=manifest.digest,
        size_bytes=figures.size_of(manifest),
        created_at=_text(manifest.run.get("started_at") or manifest.run.get("committed_at")),
        nondeterministic=any(m.nondeterministic for m in up),
        gate=gate,
        checks=checks,
        funnel=rows,
        reasons=tuple(reason for row in rows for reason in row.reasons),
        histograms=tuple(one for _, found in each(figures.histograms) for one in found),
        composition=composed,
        contamination=tuple(one for _, found in each(figures.contamination) for one in found),
        mixture=tuple(one for _, found in each(figures.mixture) for one in found),
        models=tuple(use for _, used in uses for use in used),
        prompts=tuple(prompt for m in up for prompt in figures.prompts(m)),
        money=figures.total(list(money.values())) if money else Money(),
        seconds=_sum([seconds_of(m) for m in up]),
        training=trainings([m for m in [manifest, *down] if m.ref.stage in ("finetune", "evaluate")]),
        losses=_guarded(damage, str(ref), lambda: row_losses(reader, [manifest, *down]), ()),
        upstream=tuple(step_view(m) for m in up if m.ref != ref),
        downstream=tuple(step_view(m) for m in down),
        recipe=newest.recipe if newest else None,
        reproduce=reproduce_words(newest, ref),
        run=dict(manifest.run),
        damage=tuple(dict.fromkeys(damage)),
    )


def _guarded(damage: list[Damage], place: str, work: Callable[[], T], otherwise: T) -> T:
    """The work's result; what the store cannot read becomes a note beside the rest of the page."""
    try:
        return work()
    except StoreError as error:
        damage.append(Damage(place=place, problem=str(error)))
    except (OSError, pl.exceptions.PolarsError) as error:
        damage.append(Damage(place=place, problem=f"cannot be read ({type(error).__name__}: {str(error)[:200]})"))
    return otherwise


def tags_of(store: Store, ref: DatasetRef) -> list[TagVersion]:
    """Every tag version that means this ref, oldest first."""
    found = [tag for newest in store.tags() for tag in store.tag_history(newest.name) if tag.ref == ref]
    return sorted(found, key=lambda tag: tag.created_at)


def tag_view(tag: TagVersion) -> TagView:
    """A tag version as a view."""
    return TagView(
        name=tag.name, number=tag.number, ref=str(tag.ref), created_at=tag.created_at, note=tag.note, run_id=tag.run_id
    )


def gate_of(manifest: Manifest, upstream: Sequence[Manifest]) -> tuple[GateStatus, tuple[Check, ...]]:
    """The gate as the publishing step recorded it; ``unchecked`` where there is none."""
    holder = next((m for m in [manifest, *reversed(upstream)] if isinstance(m.summary.get("gate"), Mapping)), None)
    if holder is None or (holder is not manifest and manifest.ref.stage not in READERS):
        return "unchecked", ()
    gate: Mapping[str, Any] = holder.summary["gate"]
    checks = tuple(
        Check(name=str(c.get("name", "")), status=str(c.get("status", "unchecked")), says=str(c.get("says", "")))
        for c in gate.get("checks", ())
        if isinstance(c, Mapping)
    )
    known: dict[str, GateStatus] = {name: name for name in get_args(GateStatus)}
    return known.get(str(gate.get("status")), "unchecked"), checks


def words_of(manifest: Manifest) -> int | None:
    """Words of prompts and answers, if the version counted them."""
    words: Any = manifest.summary.get("words")
    return sum(int(n) for n in words.values()) if isinstance(words, Mapping) and words else None


def tokens_of(manifest: Manifest) -> int | None:
    """Tokens of its examples as a budget estimates them (UTF-8 bytes / 4, and 4 for each turn), if it counted them."""
    tokens: Any = manifest.summary.get("estimated_tokens")
    return int(tokens) if isinstance(tokens, int) else None


def headline(
    tag: TagVersion | None,
    manifest: Manifest,
    rows: Sequence[FunnelRow],
    composed: Sequence[Composition],
    gate: GateStatus,
) -> str:
    """``1,234 examples from dolly, seeds and synthetic; 9,800 went in, 8,566 left for 12 reasons; gate passed``."""
    sources = dict.fromkeys(row.source for row in composed)
    told = [counted(manifest.counts.rows_out, "example")]
    if sources:
        told[0] += f" from {listed(sources)}"
    created = sum(row.created for row in rows)
    fell = sum(row.rejected + row.quarantined for row in rows)
    if created and (fell or created != manifest.counts.rows_out):
        reasons = len({(row.step.ref, reason.rule) for row in rows for reason in row.reasons})
        left = f"{counted(fell, 'row')} left for {counted(reasons, 'reason')}" if fell else "no row left"
        told.append(f"{created:,} were read or written, {left}")
    if tag is not None or gate != "unchecked":
        told.append(f"gate {gate}")
    return "; ".join(told)


def reproduce_words(tag: TagVersion | None, ref: DatasetRef) -> str:
    """The commands that make the same version again and prove it."""
    name = f"{tag.name}@v{tag.number}" if tag else str(ref)
    verify = f"provender verify {ref}"
    if tag is None or tag.recipe is None:
        return f"provender lineage {name}\n{verify}"
    return f"provender show {name} --recipe > recipe.yaml\nprovender run recipe.yaml\n{verify}"


def overview(store: Store) -> tuple[list[tuple[TagVersion, Manifest | None, int]], list[Damage]]:
    """Newest version of each tag with its manifest (None if it cannot be read) and how many versions the tag has."""
    found: list[tuple[TagVersion, Manifest | None, int]] = []
    damage: list[Damage] = []
    for tag in store.tags():
        try:
            manifest: Manifest | None = store.describe(tag.ref)
            versions = len(store.tag_history(tag.name))
        except ProvenderError as error:
            damage.append(Damage(place=f"{tag.name}@v{tag.number}", problem=str(error)))
            manifest, versions = None, tag.number
        found.append((tag, manifest, versions))
    return sorted(found, key=lambda row: row[0].created_at, reverse=True), damage


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _text(value: Any) -> str | None:
    return str(value) if value is not None else None
