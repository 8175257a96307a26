"""Why are these examples not in that version? Each is followed through the other lineage to the rule that dropped it."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from schemas.lineage import DatasetRef, Manifest
from storage.dense import Places, laid_out, places, verdict_arrays
from storage.find import Scope
from storage.layout import QUARANTINE, REJECT
from storage.seek import Reader, role_part
from storage.views import View
from storage.words import method_tag, preview, short

#: Rows shown for each reason.
SHOWN = 8
NOT_USED = "it was read, not used"


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


def with_ids(reader: Reader, manifest: Manifest, positions: pl.DataFrame) -> pl.DataFrame:
    """Positions of a version with the ids that stand there; order is by home, then as given."""
    tables: list[pl.DataFrame] = []
    for number, home in enumerate(manifest.homes or (manifest.ref,)):
        mine = positions.filter(pl.col("home") == number)
        if mine.height:
            ids = reader.scan(home, "examples").select("id").collect()["id"]
            tables.append(mine.with_columns(ids[mine["row"]].alias("id")))
    return pl.concat(tables) if tables else positions.with_columns(pl.lit(b"").alias("id"))


def edit_pairs(reader: Reader, manifests: Sequence[Manifest], gone: pl.Series, came: pl.Series) -> pl.DataFrame:
    """Pairs (``gone``, ``came``) where one was edited into the other, or both were edited from the same example."""
    edges: list[pl.DataFrame] = []
    for manifest in {m.commit_id: m for m in manifests}.values():
        if not any(i.edited for i in manifest.counts.inputs) or "links" not in manifest.parts:
            continue
        links = reader.scan(manifest.ref, "links").select("row", "parents").collect().explode("parents")
        parents = with_ids(
            reader, manifest, links.select(pl.col("parents").struct.unnest()).with_columns(links["row"].alias("own"))
        )
        own = reader.scan(manifest.ref, "examples").select("id").collect()["id"]
        edges.append(pl.DataFrame({"old": parents["id"], "new": own[parents["own"]]}))
    if not edges:
        return pl.DataFrame(schema={"gone": pl.Binary, "came": pl.Binary})
    edge = pl.concat(edges).unique()
    shared = edge.join(edge, on="old", suffix="_other").select(
        pl.col("new").alias("gone"), pl.col("new_other").alias("came")
    )
    pairs = pl.concat(
        [
            edge.select(pl.col("old").alias("gone"), pl.col("new").alias("came")),
            edge.select(pl.col("new").alias("gone"), pl.col("old").alias("came")),
            shared,
        ]
    )
    found = pairs.filter(pl.col("gone").is_in(gone.implode()) & pl.col("came").is_in(came.implode()))
    return found.unique("gone", keep="first", maintain_order=True).unique("came", keep="first", maintain_order=True)


def absences(reader: Reader, rows: pl.DataFrame, source: Manifest, scope: Scope) -> tuple[Absence, ...]:
    """Why the examples ``rows`` (``id``, ``home``, ``row`` of ``source``) are not in the target of ``scope``. Most rows first.

    Those whose home the other lineage knows are followed by place, in one pass over numbers; the others are found by id,
    so that a source that was read anew still explains its rows.
    """
    known = pl.Series([home in scope.refs for home in source.homes or (source.ref,)])
    here = known.gather(rows["home"].to_list()) if rows.height else pl.Series([], dtype=pl.Boolean)
    found = [
        *_by_places(reader, rows.filter(here), source, scope),
        *_by_ids(reader, rows.filter(~here), source, scope),
    ]
    merged: dict[tuple[str | None, str | None, str], Absence] = {}
    for one in found:
        key = (one.ref, one.rule, one.says)
        held = merged.get(key)
        if held is not None:
            one = held.model_copy(update={"rows": held.rows + one.rows, "some": (*held.some, *one.some)[:SHOWN]})
        merged[key] = one
    return tuple(sorted(merged.values(), key=lambda absence: -absence.rows))


def _by_places(reader: Reader, left: pl.DataFrame, source: Manifest, scope: Scope) -> list[Absence]:
    where = Places(tuple(source.homes) or (source.ref,), left["home"].to_numpy(), left["row"].to_numpy())
    found, left = _followed(reader, left, where, source, scope)
    if left.height:
        found.append(Absence(says=NOT_USED, rows=left.height, some=_some(reader, source, left)))
    return found


def _by_ids(reader: Reader, left: pl.DataFrame, source: Manifest, scope: Scope) -> list[Absence]:
    """As ``_by_places``, once it is known where the other lineage holds the same ids: perhaps in several places each."""
    if not left.height:
        return []
    homes: list[DatasetRef] = []
    held: list[pl.DataFrame] = []
    wanted = left["id"].implode()
    for manifest in scope.manifests:
        if manifest.parts.get("examples"):
            ids = reader.scan(manifest.ref, "examples").select("id").with_row_index("there")
            mine = ids.filter(pl.col("id").is_in(wanted)).collect()
            held.append(mine.with_columns(pl.lit(len(homes), pl.UInt16).alias("in")))
            homes.append(manifest.ref)
    places_ = left.join(pl.concat(held), on="id", how="inner", maintain_order="left") if held else left.clear()
    new = left.join(places_, on="id", how="anti", maintain_order="left")
    found: list[Absence] = []
    if places_.height:
        where = Places(tuple(homes), places_["in"].to_numpy(), places_["there"].to_numpy())
        found, places_ = _followed(reader, places_, where, source, scope)
    known = places_.unique("id", keep="first", maintain_order=True)
    for table, says in ((new, "not among the examples of its sources and generators"), (known, NOT_USED)):
        if table.height:
            found.append(Absence(says=says, rows=table.height, some=_some(reader, source, table)))
    return found


def _followed(
    reader: Reader, left: pl.DataFrame, where: Places, source: Manifest, scope: Scope
) -> tuple[list[Absence], pl.DataFrame]:
    """What dropped the rows of ``left`` that lie at ``where``, and the rows that nothing in scope dropped."""
    found: list[Absence] = []
    for manifest in scope.manifests:
        for role, ref in manifest.step.inputs:
            if role_part(manifest, role) is None or not left.height:
                continue
            if not any(i.rejected or i.quarantined for i in manifest.counts.inputs if i.role == role):
                continue
            fates, rules, scores = verdict_arrays(reader, manifest, role)
            fell = np.flatnonzero((fates == REJECT) | (fates == QUARANTINE))
            table = laid_out(reader, places(reader, ref).at(fell), fell.astype(np.uint32) + 1, np.uint32(0))
            at = where.gather(table, np.uint32(0)).astype(np.int64)
            hit = at > 0
            if hit.any():
                position = at[hit] - 1
                hits = left.filter(pl.Series(hit)).with_columns(
                    pl.Series("rule", rules[position]), pl.Series("score", scores[position]).fill_nan(None)
                )
                hits = hits.unique("id", keep="first", maintain_order=True)
                found += _by_rule(reader, manifest, source, hits)
                if "in" in left.columns:  # another place of the same id is answered with it
                    hit |= left["id"].is_in(hits["id"].implode()).to_numpy()
                left, where = left.filter(pl.Series(~hit)), where.at(np.flatnonzero(~hit))
    return found, left


def _by_rule(reader: Reader, manifest: Manifest, source: Manifest, hits: pl.DataFrame) -> list[Absence]:
    found: list[Absence] = []
    for index in hits["rule"].unique().sort().to_list():
        rule = manifest.rules[index - 1]
        mine = hits.filter(pl.col("rule") == index)
        if rule.threshold is not None:
            mine = mine.sort((pl.col("score") - rule.threshold).abs(), nulls_last=True)
        step = f"{manifest.ref.stage} {method_tag(manifest)}"
        found.append(
            Absence(
                says=f"dropped at {step}: {rule.says} ({rule.name})",
                rows=mine.height,
                ref=str(manifest.ref),
                stage=manifest.ref.stage,
                method=method_tag(manifest),
                rule=rule.name,
                threshold=rule.threshold,
                direction=rule.direction,
                some=_some(reader, source, mine),
            )
        )
    return found


def _some(reader: Reader, source: Manifest, rows: pl.DataFrame) -> tuple[AbsentRow, ...]:
    """The first rows with their beginnings; ``home`` and ``row`` are positions of ``source``."""
    first = rows.head(SHOWN).to_dicts()
    homes = source.homes or (source.ref,)
    examples = reader.examples([(homes[row["home"]], row["row"]) for row in first], ("source", "messages"))
    return tuple(
        AbsentRow(
            id=row["id"].hex(),
            preview=preview(next((t["content"] for t in example["messages"] if t["role"] != "system"), "") or ""),
            source=example["source"] or "",
            score=short(row.get("score")),
        )
        for row, example in zip(first, examples, strict=True)
    )
