"""Rows in, what left and why, rows out: the counts of each step on the way to a version, read from manifests alone."""

from collections.abc import Mapping, Sequence

from schemas.lineage import DatasetRef, Manifest
from storage.questions.views import FunnelRow, Money, ReasonCount
from storage.questions.words import counted, step_view


def funnel(
    manifests: Sequence[Manifest],
    *,
    refusals: Mapping[DatasetRef, Sequence[tuple[str, int]]] | None = None,
    money: Mapping[DatasetRef, Money] | None = None,
) -> tuple[FunnelRow, ...]:
    """One row per step, in the order given (sources first). What is not in a manifest is handed in."""
    rows_of = {manifest.ref: manifest.counts.rows_out for manifest in manifests}
    return tuple(
        FunnelRow(
            step=step_view(manifest),
            rows_in=sum(i.rows for i in manifest.counts.inputs if not i.passed_by),
            kept=sum(i.kept for i in manifest.counts.inputs),
            rejected=sum(i.rejected for i in manifest.counts.inputs),
            edited=sum(i.edited for i in manifest.counts.inputs),
            quarantined=sum(i.quarantined for i in manifest.counts.inputs),
            created=manifest.counts.created,
            refused=manifest.counts.refused,
            repeats=manifest.counts.repeats,
            rows_out=manifest.counts.rows_out,
            read=tuple(
                (role, str(ref), rows_of.get(ref, 0))
                for role, ref in manifest.step.inputs
                if f"verdicts/{role}" not in manifest.parts
            ),
            reasons=reasons_of(manifest),
            refusals=tuple((refusals or {}).get(manifest.ref, ())),
            seconds=seconds_of(manifest),
            money=(money or {}).get(manifest.ref),
        )
        for manifest in manifests
    )


def reasons_of(manifest: Manifest) -> tuple[ReasonCount, ...]:
    """The rules that did not keep rows, most rows first."""
    rules = {rule.name: rule for rule in manifest.rules}
    rows_in = sum(i.rows for i in manifest.counts.inputs if not i.passed_by)
    counts = [
        ReasonCount(
            ref=str(manifest.ref),
            stage=manifest.ref.stage,
            rule=name,
            says=rules[name].says if name in rules else "",
            rows=rows,
            share_fraction=rows / rows_in if rows_in else None,
            threshold=rules[name].threshold if name in rules else None,
            direction=rules[name].direction if name in rules else "none",
        )
        for name, rows in manifest.reasons.items()
        if rows
    ]
    return tuple(sorted(counts, key=lambda reason: (-reason.rows, reason.rule)))


def seconds_of(manifest: Manifest) -> float | None:
    """How long the step took, if its run recorded it."""
    value = manifest.run.get("seconds")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def conserved(row: FunnelRow) -> bool:
    """Whether the counts of a step add up: each row in has one fate, each row out one origin."""
    fates = row.kept + row.rejected + row.edited + row.quarantined
    if row.rows_in == 0 and not row.created:
        return fates == 0
    return fates == row.rows_in and row.rows_out == row.kept + row.edited + row.created + row.repeats


def change_words(row: FunnelRow) -> str:
    """What a step did to the rows: ``1,000 in, 120 dropped (too-short 80, empty 40), 880 out``."""
    told: list[str] = []
    if row.rows_in:
        told.append(f"{row.rows_in:,} in")
    if row.created:
        told.append(f"{row.created:,} created")
    if row.rejected:
        why = ", ".join(f"{reason.rule} {reason.rows:,}" for reason in row.reasons[:3])
        more = f" and {counted(len(row.reasons) - 3, 'other reason')}" if len(row.reasons) > 3 else ""
        told.append(f"{row.rejected:,} dropped" + (f" ({why}{more})" if why else ""))
    if row.edited:
        told.append(f"{row.edited:,} edited")
    if row.quarantined:
        told.append(f"{row.quarantined:,} quarantined")
    if row.refused:
        why = ", ".join(f"{reason} {count:,}" for reason, count in row.refusals[:3])
        told.append(f"{row.refused:,} refused" + (f" ({why})" if why else ""))
    if row.repeats:
        told.append(f"{row.repeats:,} repeats")
    told.append(f"{row.rows_out:,} out")
    return ", ".join(told)
