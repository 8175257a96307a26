"""What a decontaminate step found, per benchmark and rule: examples that match, items that are matched, shares."""

import polars as pl
from pydantic import BaseModel, ConfigDict

from schemas.lineage import DatasetRef, Manifest
from storage.packs.reviews import PAIRS_PART, count
from storage.store import Store


class Found(BaseModel):
    """One rule on one benchmark. ``share`` is of the benchmark's items, ``examples`` are those the rule decided on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    method: str
    benchmark: str
    version: str
    rule: str  # empty: no rule met this benchmark
    examples: int
    items_hit: int
    items: int
    share: float  # items_hit / items


class Check(BaseModel):
    """A dataset against benchmarks: what each rule found, and how many of the examples any rule names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    examples: int
    flagged: int
    fraction: float  # flagged / examples
    found: list[Found]


def check_of(store: Store, dataset: DatasetRef, steps: list[DatasetRef]) -> Check:
    """The result of steps that each looked at the same dataset (see `Policy.report_only`)."""
    rows = store.describe(dataset).counts.rows_out
    named = [store.scan(ref, "verdicts/pool").select(pl.col("rule") > 0).collect().to_series() for ref in steps]
    flagged = int(pl.DataFrame(named_alike(named)).select(pl.any_horizontal(pl.all()).sum()).item()) if named else 0
    return Check(
        dataset=str(dataset),
        examples=rows,
        flagged=flagged,
        fraction=flagged / max(rows, 1),
        found=[line for ref in steps for line in found_by(store, store.describe(ref))],
    )


def named_alike(columns: list[pl.Series]) -> list[pl.Series]:
    """The columns under names of their own."""
    return [column.alias(str(i)) for i, column in enumerate(columns)]


def found_by(store: Store, step: Manifest) -> list[Found]:
    """One line per rule and benchmark of a step, and one for each benchmark that no rule met."""
    about = dict(step.summary.get("benchmarks", {}))
    pairs = store.part(step.ref, PAIRS_PART) if PAIRS_PART in step.parts else pl.DataFrame()
    hit: dict[tuple[str, str], int] = {}
    if pairs.height:
        hit = {(b, r): n for b, r, n in pairs.group_by("benchmark", "rule").agg(pl.col("item").n_unique()).iter_rows()}
    examples: dict[tuple[str, str], int] = {
        (str(benchmark), str(rule)): int(n)
        for ref, rule, benchmark, n in count(store, step.ref).iter_rows()
        if ref == str(step.ref)
    }
    lines: list[Found] = []
    for benchmark, rule in sorted({*hit, *examples} | {(name, "") for name in about}):
        if not rule and any(name == benchmark for name, _ in (*hit, *examples)):
            continue
        items = int(about.get(benchmark, {}).get("items", 0))
        items_hit = hit.get((benchmark, rule), 0)
        lines.append(
            Found(
                step=str(step.ref),
                method=str(step.step.method.get("method")),
                benchmark=benchmark,
                version=str(about.get(benchmark, {}).get("version", "")),
                rule=rule,
                examples=examples.get((benchmark, rule), 0),
                items_hit=items_hit,
                items=items,
                share=items_hit / items if items else 0.0,
            )
        )
    return lines


def without_repeats(store: Store, ref: DatasetRef) -> DatasetRef:
    """The version itself, or the nearest before it in which no example stands twice: what a mixture was mixed from."""
    while store.positions(ref).is_duplicated().any():
        ref = store.describe(ref).step.inputs[0][1]
    return ref
