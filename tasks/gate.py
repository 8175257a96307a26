"""Look at a dataset before training: contamination, conservation, licences. A dataset that fails does not train."""

import re

import numpy as np
import polars as pl

from methods.texts.licenses import NON_COMMERCIAL
from schemas.errors import GateClosed
from schemas.gate import Check, Gate
from schemas.lineage import DatasetRef, Manifest
from storage.packs.shelf import known
from storage.store import Store

#: Methods of decontaminate that compare no text with an item, so that they vouch for nothing.
NO_CHECK = frozenset({"temporal", "min-k"})


def inspect(store: Store, ref: DatasetRef, declared: dict[str, str], max_contaminated_fraction: float) -> Gate:
    """The gate of a dataset version; ``declared`` maps the recipe's benchmarks to the digests of their items."""
    upstream = store.upstream(ref)
    return Gate(
        checks=(
            contamination(store, upstream, declared, max_contaminated_fraction),
            conservation(store, upstream),
            licences(upstream[-1]),
        )
    )


def contamination(
    store: Store, upstream: list[Manifest], declared: dict[str, str], max_contaminated_fraction: float
) -> Check:
    """Whether every member was compared with every item declared, and how many flagged ones are members still.

    Members are followed one by one: an example that was edited, generated or gathered in after the check was not checked,
    whatever the rest went through, and one that was dropped and came back by another way counts as flagged.
    """
    if not declared:
        return _unchecked("the recipe declares no benchmark; add `decontaminate: {benchmarks: [gsm8k, …], by: …}`")
    last = upstream[-1]
    steps = [m for m in upstream if m.step.stage == "decontaminate" and m.step.method.get("method") not in NO_CHECK]
    homes: dict[DatasetRef, int] = {}
    members = _placed(store, last, homes)
    looked: list[Manifest] = []
    short: list[str] = []
    for name, digest in sorted(declared.items()):
        against = [m for m in steps if m.step.content.get(f"benchmark/{name}") == digest]
        if not against:
            other = any(f"benchmark/{name}" in m.step.content for m in steps)
            why = "only against another version of" if other else "by no decontaminate step against"
            return _unchecked(f"it was checked {why} {name}")
        seen = pl.concat([_placed(store, store.describe(dict(m.step.inputs)["pool"]), homes) for m in against])
        unseen = members.join(seen.unique(), on=["home", "row"], how="anti")
        if unseen.height:
            return _unchecked(
                f"no decontaminate step saw {unseen.height:,} of its {members.height:,} examples against {name}; "
                "decontaminate after the last step that adds or edits examples"
            )
        found, items = _looked_for(name, against)
        if not found:
            how = ", ".join(dict.fromkeys(str(m.step.method.get("method")) for m in against))
            return _unchecked(
                f"none of the {items:,} items of {name} has as many words as {how} asks of one, so none was looked for; "
                "give the method a lower `min_words`"
            )
        if found < items:
            short.append(f"{items - found:,} of {items:,} items of {name}")
        looked += [m for m in against if m not in looked]
    flagged = pl.concat([_flagged(store, m, homes) for m in looked]).unique()
    remain = members.join(flagged, on=["home", "row"], how="semi").height
    fraction = remain / max(members.height, 1)
    ok = fraction <= max_contaminated_fraction
    return Check(
        name="contamination",
        status="passed" if ok else "failed",
        says=f"checked against {', '.join(sorted(declared))} at {looked[-1].ref} "
        f"by {', '.join(dict.fromkeys(str(m.step.method.get('method')) for m in looked))}: "
        f"{sum(i.rejected + i.quarantined for m in looked for i in m.counts.inputs)} dropped, {remain} flagged ones remain "
        f"({fraction:.2%}, at most {max_contaminated_fraction:.2%} allowed)"
        + (f"; too short to be looked for: {', '.join(short)}" if short else ""),
    )


def outdated(gate: Gate, manifest: Manifest) -> Gate:
    """The gate as it stands today: a benchmark of which another version is here now has not been checked.

    ``manifest`` is that of the published version, which holds the digests that were checked.
    """
    declared = dict(manifest.step.method.get("declared") or {})
    moved = {name: info for name, info in known().items() if name in declared and declared[name] != info.sha256}
    if not moved:
        return gate
    what = ", ".join(f"{name} (version {info.version} is here now)" for name, info in sorted(moved.items()))
    check = _unchecked(f"it was checked against another version of {what}; decontaminate and publish it again")
    return Gate(checks=tuple(check if c.name == "contamination" else c for c in gate.checks))


def _unchecked(says: str) -> Check:
    return Check(name="contamination", status="unchecked", says=says)


def _placed(store: Store, manifest: Manifest, homes: dict[DatasetRef, int]) -> pl.DataFrame:
    """The version's members as (home, row), homes numbered alike for all versions."""
    positions = store.positions(manifest.ref)
    numbers = [homes.setdefault(home, len(homes)) for home in (manifest.homes or (manifest.ref,))]
    to = np.asarray(numbers, dtype=np.uint32)
    return positions.with_columns(pl.Series("home", to[positions["home"].to_numpy()]))


def _looked_for(name: str, against: list[Manifest]) -> tuple[int, int]:
    """How many items of a benchmark at least one of the steps looked for, and how many it has.

    Steps of an earlier release did not count them: all, then.
    """
    told = [dict(m.summary.get("benchmarks") or {}).get(name) or {} for m in against]
    counted = [(int(one.get("looked_for", one["items"])), int(one["items"])) for one in told if "items" in one]
    return max(counted, default=(1, 1))


def _flagged(store: Store, step: Manifest, homes: dict[DatasetRef, int]) -> pl.DataFrame:
    """The examples of a step's input that one of its rules named, as (home, row)."""
    pool = _placed(store, store.describe(dict(step.step.inputs)["pool"]), homes)
    rule = store.scan(step.ref, "verdicts/pool").select(pl.col("rule") > 0).collect().to_series()
    return pool.filter(rule)


def conservation(store: Store, upstream: list[Manifest]) -> Check:
    """Whether the row counts of every step add up and its parts are there."""
    findings = [f for m in upstream for f in store.verify(m.ref, deep=False)]
    if findings:
        return Check(name="conservation", status="failed", says=f"{findings[0].place}: {findings[0].problem}")
    return Check(name="conservation", status="passed", says=f"{len(upstream)} steps: in = kept + rejected + edited")


def licences(manifest: Manifest) -> Check:
    """Whether any licence among the members forbids commercial use; unknown ones are named, not judged."""
    names = sorted({str(row["license"]) for row in manifest.summary.get("composition", [])})
    forbidden = [name for name in names if re.search(NON_COMMERCIAL, name)]
    if forbidden:
        return Check(
            name="licences",
            status="failed",
            says=f"{', '.join(forbidden)} forbid commercial use; set finetune.non_commercial_ok if that is fine",
        )
    return Check(name="licences", status="passed", says=", ".join(names) or "no licence recorded")


def must_be_open(gate: Gate, what: str) -> None:
    """Raise ``GateClosed`` unless the gate lets the dataset through."""
    if gate.status not in ("passed", "overridden"):
        raise GateClosed(
            f"{what} must not be trained on: {gate.says}. Mend the recipe, or set finetune.override_gate to a written "
            "reason; it will be recorded"
        )
