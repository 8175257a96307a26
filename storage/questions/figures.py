"""Figures that are read from parts: calls and their cost, score histograms, composition, contamination, mixtures.

Versions are immutable, so each figure is worked out once per process and remembered.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.lineage import Manifest
from storage.questions.dense import Places, facet, laid_out, places
from storage.questions.lasting import lasting
from storage.questions.remembered import Memory
from storage.questions.views import Composition, Contamination, Histogram, MixtureRow, ModelUse, Money, PromptUse
from storage.questions.words import method_tag
from storage.seek import Reader, role_part

T = TypeVar("T")
Array = npt.NDArray[Any]

BINS = 32
_BLOCK = 1 << 15

#: Small figures by version: some thousands of them.
memory = Memory(most_bytes=1 << 20)


def remembered(reader: Reader, manifest: Manifest, what: str, work: Callable[[], T]) -> T:
    """The value worked out once for this version."""
    return memory.of((str(reader.store.root), manifest.commit_id, what), work)


def counted_once(reader: Reader, manifest: Manifest, what: str, work: Callable[[], T]) -> T:
    """The same for what follows from the version's own objects alone: an earlier process may have counted it."""
    return remembered(reader, manifest, what, lambda: lasting(reader, (manifest,), (manifest.commit_id, what), work))


def money_by_model(reader: Reader, manifest: Manifest) -> tuple[ModelUse, ...]:
    """Calls, tokens and cost of a step, per model."""

    def work() -> tuple[ModelUse, ...]:
        if not reader.has(manifest.ref, "calls"):
            return ()
        calls = reader.scan(manifest.ref, "calls")
        told = "kind" in calls.collect_schema().names()  # else of an older release, which kept generations only
        grouped = (
            calls.group_by("model")
            .agg(
                (pl.col("kind") == "score").sum().alias("scorings") if told else pl.lit(0).alias("scorings"),
                pl.len().alias("calls"),
                pl.col("cached").sum(),
                pl.col("cost_usd").null_count().alias("unpriced"),
                pl.col("failure").is_not_null().sum().alias("failed"),
                pl.col("prompt_tokens").sum(),
                pl.col("completion_tokens").sum(),
                pl.col("cost_usd").sum(),
            )
            .sort("calls", descending=True)
            .collect()
        )
        return tuple(
            ModelUse(
                ref=str(manifest.ref), stage=manifest.ref.stage, model=row["model"] or "unknown", money=_money(row)
            )
            for row in grouped.to_dicts()
        )

    return counted_once(reader, manifest, "calls", work)


def _money(row: Mapping[str, Any]) -> Money:
    calls, unpriced = int(row["calls"]), int(row["unpriced"])
    known = float(row["cost_usd"] or 0.0) if unpriced < calls else None
    return Money(
        calls=calls,
        cached_calls=int(row["cached"] or 0),
        scorings=int(row["scorings"] or 0),
        unpriced_calls=unpriced,
        failed_calls=int(row["failed"] or 0),
        prompt_tokens=int(row["prompt_tokens"] or 0),
        completion_tokens=int(row["completion_tokens"] or 0),
        usd=known if unpriced == 0 else None,
        known_usd=known,
    )


def total(parts: Sequence[Money]) -> Money:
    """Several costs together; the amount is known only if every call's is."""
    calls = sum(part.calls for part in parts)
    known = [part.known_usd for part in parts if part.known_usd is not None]
    unpriced = sum(part.unpriced_calls for part in parts)
    return Money(
        calls=calls,
        cached_calls=sum(part.cached_calls for part in parts),
        scorings=sum(part.scorings for part in parts),
        unpriced_calls=unpriced,
        failed_calls=sum(part.failed_calls for part in parts),
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        completion_tokens=sum(part.completion_tokens for part in parts),
        usd=sum(known) if calls and unpriced == 0 else None,
        known_usd=sum(known) if known else None,
    )


def refusals(reader: Reader, manifest: Manifest) -> tuple[tuple[str, int], ...]:
    """Refused outside rows or candidates by reason, most first."""

    def work() -> tuple[tuple[str, int], ...]:
        if not reader.has(manifest.ref, "refused"):
            return ()
        counts = reader.scan(manifest.ref, "refused").group_by("reason").agg(pl.len().alias("rows")).collect()
        rows = ((str(reason), int(count)) for reason, count in counts.iter_rows())
        return tuple(sorted(rows, key=lambda pair: (-pair[1], pair[0])))

    return counted_once(reader, manifest, "refused", work)


def histograms(reader: Reader, manifest: Manifest) -> tuple[Histogram, ...]:
    """Score distributions of a step: one per consumed input with scores, one per column of a ranking."""

    def work() -> tuple[Histogram, ...]:
        found: list[Histogram | None] = []
        for role, _ in manifest.step.inputs:
            part = role_part(manifest, role)
            if part and reader.has(manifest.ref, part):
                frame = reader.scan(manifest.ref, part).select("fate", "score").collect()
                found.append(_verdict_histogram(manifest, role, frame))
        if reader.has(manifest.ref, "scores"):
            scores = reader.scan(manifest.ref, "scores")
            numeric = [name for name, kind in scores.collect_schema().items() if kind.is_numeric()][:8]
            columns = scores.select(numeric).collect()
            found += [_histogram(manifest, name, columns[name], None, ()) for name in numeric]
        return tuple(one for one in found if one is not None)

    return counted_once(reader, manifest, "histograms", work)


def _verdict_histogram(manifest: Manifest, role: str, frame: pl.DataFrame) -> Histogram | None:
    drawn = [
        (rule.name, float(rule.threshold), rule.direction)
        for rule in manifest.rules
        if rule.threshold is not None and rule.direction != "none"
    ]
    several = sum(1 for r, _ in manifest.step.inputs if role_part(manifest, r)) > 1
    name = f"score of {role}" if several else "score"
    return _histogram(manifest, name, frame["score"], frame["fate"] == 0, drawn)


def _histogram(
    manifest: Manifest, name: str, values: pl.Series, kept: pl.Series | None, drawn: Sequence[tuple[str, float, str]]
) -> Histogram | None:
    some, scored = _finite(values)
    if not some.size:
        return None
    low, high = float(some.min()), float(some.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    keep = None if kept is None else kept.to_numpy() if scored is None else kept.to_numpy()[scored]
    bins, counts = np.empty(some.size, dtype=np.int8), np.zeros(2 * BINS, dtype=np.int64)
    total = 0.0
    for start in range(0, some.size, _BLOCK):  # a block stays in the processor's cache from one operation to the next
        block = slice(start, start + _BLOCK)
        exact = some[block].astype(np.float64)
        total += float(exact.sum())
        at = np.minimum(((exact - low) * (BINS / (high - low))).astype(np.intp), BINS - 1)
        bins[block] = at
        counts += np.bincount(at + BINS * (1 if keep is None else keep[block]), minlength=2 * BINS)
    return Histogram(
        ref=str(manifest.ref),
        stage=manifest.ref.stage,
        method=method_tag(manifest),
        name=name,
        edges=tuple(float(edge) for edge in edges),
        kept=tuple(int(n) for n in counts[BINS:]),
        dropped=tuple(int(n) for n in counts[:BINS]),
        judged=kept is not None,
        missing=values.len() - some.size,
        rules=tuple(drawn),
        mean=total / some.size,
        median=_median(some, bins),
    )


def _finite(values: pl.Series) -> tuple[Array, Array | None]:
    """The numbers of a column that are finite, and flags of where they stand: None if all are."""
    column = (values if values.dtype.is_float() else values.cast(pl.Float64)).fill_null(float("nan")).to_numpy()
    if not column.size or (np.isfinite(column.min()) and np.isfinite(column.max())):  # what is no number spreads
        return column, None
    scored = np.isfinite(column)
    return column[scored], scored


def _median(values: Array, bins: Array) -> float:
    """The exact median: only the bins in which the middle lies are put in order."""
    ends = np.cumsum(np.bincount(bins, minlength=BINS))
    middle = [(values.size - 1) // 2, values.size // 2]
    first, last = (int(np.searchsorted(ends, at, side="right")) for at in middle)
    before = int(ends[first - 1]) if first else 0
    near = np.sort(values[(bins >= first) & (bins <= last)].astype(np.float64))
    return float((near[middle[0] - before] + near[middle[1] - before]) / 2)


def composition(reader: Reader, manifest: Manifest) -> tuple[Composition, ...]:
    """Rows by source, licence and synthetic depth, most rows first; as stored with the version, or counted."""

    def work() -> tuple[Composition, ...]:
        stored: Any = manifest.summary.get("composition")
        if not isinstance(stored, list):
            stored = _members_by(reader, manifest, reader.store.positions(manifest.ref))
        rows = [
            Composition(
                source=str(row["source"] or ""),
                license=None if row["license"] in (None, "unknown") else str(row["license"]),
                synthetic_depth=int(row["synthetic_depth"] or 0),
                rows=int(row["rows"]),
            )
            for row in stored
        ]
        return tuple(sorted(rows, key=lambda row: (-row.rows, row.source, row.license or "", row.synthetic_depth)))

    return counted_once(reader, manifest, "composition", work)


def _members_by(reader: Reader, manifest: Manifest, positions: pl.DataFrame) -> list[dict[str, Any]]:
    """How many of these positions have each source, licence and depth."""
    columns = ("source", "license", "synthetic_depth")
    tables: list[pl.DataFrame] = []
    for number, home in enumerate(manifest.homes or (manifest.ref,)):
        rows = positions.filter(pl.col("home") == number)["row"]
        if rows.len():
            tables.append(reader.scan(home, "examples").select(columns).collect()[rows])
    if not tables:
        return []
    return pl.concat(tables).group_by(columns).agg(pl.len().alias("rows")).to_dicts()


def contamination(reader: Reader, manifest: Manifest) -> tuple[Contamination, ...]:
    """Hits per benchmark of a decontamination step; a benchmark that was looked for and not met has zero hits."""

    def work() -> tuple[Contamination, ...]:
        rows: list[Contamination] = []
        for role, ref in manifest.step.inputs:
            part = role_part(manifest, role)
            if part is None:
                continue
            hits = (
                reader.scan(manifest.ref, part)
                .filter(pl.col("evidence").is_not_null())
                .select("fate", benchmark_named().alias("benchmark"))
                .filter(pl.col("benchmark").is_not_null())
                .collect()
            )
            checked = reader.rows_of(ref)
            found = {name: [0, 0, 0, 0] for name in benchmarks_of(manifest)}
            for name, fate in hits.select("benchmark", "fate").iter_rows():
                found.setdefault(name, [0, 0, 0, 0])[fate] += 1
            rows += [
                Contamination(
                    ref=str(manifest.ref),
                    benchmark=name,
                    rows_checked=checked,
                    hits=sum(fates),
                    kept=fates[0],
                    dropped=fates[1] + fates[3],
                    edited=fates[2],
                )
                for name, fates in found.items()
            ]
        return tuple(sorted(rows, key=lambda row: (-row.hits, row.benchmark)))

    return counted_once(reader, manifest, "contamination", work) if manifest.ref.stage == "decontaminate" else ()


def benchmark_named() -> pl.Expr:
    """The benchmark that evidence names: ``benchmark`` itself, or that of the first of its ``matches`` or ``hits``."""
    paths = ("$.benchmark", "$.matches[0].benchmark", "$.hits[0].benchmark")
    return pl.coalesce([pl.col("evidence").str.json_path_match(path) for path in paths])


def benchmarks_of(manifest: Manifest) -> tuple[str, ...]:
    """The benchmarks a step was given, from its identity."""
    named = manifest.step.content.keys() if manifest.ref.stage == "decontaminate" else ()
    return tuple(sorted(name.removeprefix("benchmark/") for name in named))


def mixture(reader: Reader, manifest: Manifest) -> tuple[MixtureRow, ...]:
    """Asked and realised share of each pool (or source of the one pool) of a mixture."""

    def work() -> tuple[MixtureRow, ...]:
        weights: Any = manifest.summary.get("weights") or {}
        take: Any = manifest.summary.get("take") or {}
        available: Any = manifest.summary.get("available") or {}
        notes: Any = manifest.summary.get("notes")
        intervals: Any = notes.get("intervals") if isinstance(notes, Mapping) else None
        out = manifest.counts.rows_out
        distinct = _sources_of_distinct(reader, places(reader, manifest.ref))
        return tuple(
            MixtureRow(
                ref=str(manifest.ref),
                pool=pool,
                weight_fraction=float(weights[pool]) if pool in weights else None,
                weight_interval=_interval(intervals.get(pool)) if isinstance(intervals, Mapping) else None,
                available=int(available.get(pool, distinct.get(pool, 0))),
                examples=distinct.get(pool, 0),
                rows=int(take[pool]) if pool in take else None,
                share_fraction=int(take[pool]) / out if pool in take and out else None,
            )
            for pool in sorted({*weights, *take, *available, *distinct})
        )

    return counted_once(reader, manifest, "mixture", work) if manifest.ref.stage == "mix" else ()


def _interval(found: Any) -> tuple[float, float] | None:
    """Two finite numbers in order; what is anything else is no interval, and none is drawn."""
    if not isinstance(found, list | tuple) or len(found) != 2:
        return None
    low, high = found
    if not all(isinstance(bound, int | float) and isfinite(bound) for bound in found) or low > high:
        return None
    return float(low), float(high)


def _sources_of_distinct(reader: Reader, where: Places) -> dict[str, int]:
    """How many examples each source has, repeats counted once."""
    flags = laid_out(reader, where, np.ones(len(where), dtype=bool), False)
    found: dict[str, int] = {}
    for home, held in flags.items():
        row = np.flatnonzero(held).astype(np.uint32)
        names, codes = facet(reader, Places((home,), np.zeros(len(row), dtype=np.uint16), row), "source")
        for name, count in zip(names, np.bincount(codes, minlength=len(names)), strict=True):
            found[name] = found.get(name, 0) + int(count)
    return {name: count for name, count in found.items() if count}


def prompts(manifest: Manifest) -> tuple[PromptUse, ...]:
    """The prompt texts that are part of a step's identity."""
    return tuple(
        PromptUse(ref=str(manifest.ref), stage=manifest.ref.stage, field=field, text=text)
        for field, text in prompt_texts(manifest)
    )


def prompt_texts(manifest: Manifest) -> list[tuple[str, str]]:
    """Prompt files of a step by name with their templates, and fields that hold a prompt text."""
    fields, files = manifest.step.method, manifest.step.method.get("prompts")
    spoken = files.items() if isinstance(files, Mapping) else ()
    return [
        *((str(name), str(one["body"])) for name, one in spoken if isinstance(one, Mapping) and one.get("body")),
        *((k, v) for k, v in fields.items() if isinstance(v, str) and v and ("prompt" in k or len(v) > 60)),
    ]


def size_of(manifest: Manifest) -> int:
    """Bytes of all parts that the manifest names."""
    return sum(part.size_bytes for parts in manifest.parts.values() for part in parts)
