"""Blend the sources of a pool: how much of each, which examples, in which order."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace

import polars as pl

from methods.mix import AnyMix
from methods.rounding import choose
from schemas.examples import FATES
from schemas.lineage import DatasetRef, Rule
from schemas.method import Blend, Stretch
from tasks.bench import Bench
from tasks.figures import figures_of
from tasks.materialise import Work, materialise
from tasks.proxies import by_source, inputs_of, map_proxy_runs, stopping
from tasks.settle import at_rest
from tasks.stage_task import stage_task

OVER_QUOTA = Rule(name="mixture-quota", says="its source gives no more examples to this mixture")


def mix_sources(pool: DatasetRef, method: AnyMix, bench: Bench, target: DatasetRef | None = None) -> DatasetRef:
    """The pool's sources in the weights the method finds; an example may repeat, and the order is a keyed shuffle, within
    the stages of a curriculum where the method has one (``ordered`` in the summary).

    ``target`` counts only for methods that aim. Proxy runs of a method that has any are mapped over the flow's runner.
    """
    aim = target if method.aims else None
    map_proxy_runs(pool, method, bench, aim)
    return mix_pool(pool, method, bench, aim)


@stage_task("mix {method.method}")
def mix_pool(pool: DatasetRef, method: AnyMix, bench: Bench, aim: DatasetRef | None) -> DatasetRef:
    """The mixture of a pool, its proxy runs found measured or made here one after the other."""

    def compute(work: Work) -> None:
        rows = work.store.pool(pool)
        sources = by_source(rows)
        held_out = work.store.pool(aim) if aim else None
        tools = replace(work.using, once=stopping(work.using.once, work.store))
        blend = method.weigh(sources, using=tools, rng=work.rng, target=held_out)
        parts = [chosen_of(sources[part.pool]["id"], part, work.bench.rng_seed) for part in course_of(blend)]
        chosen = pl.concat(parts).group_by("id").agg(pl.col("repeat").sum())  # repeat: times it stands in the mixture
        took = rows.select("id").join(chosen, on="id", how="left", maintain_order="left")
        times = took["repeat"].fill_null(0)
        said = took.select(
            "id",
            pl.when(times > 0).then(pl.lit(FATES[0])).otherwise(pl.lit(FATES[1])).alias("fate"),
            pl.when(times > 0).then(None).otherwise(pl.lit(OVER_QUOTA.name)).alias("reason"),
            pl.lit(None, pl.Float64).alias("score"),
            pl.lit(None, pl.String).alias("evidence"),
        )
        work.draft.homes = list(work.store.describe(pool).homes)
        work.draft.rules = [OVER_QUOTA]
        work.draft.put("verdicts/pool", at_rest(said, [OVER_QUOTA], "mix"))
        work.draft.put("members", in_order(work.store.positions(pool), rows["id"], parts, work.bench.rng_seed))
        if blend.runs is not None:
            work.draft.put("sidecar/runs", blend.runs)
        kept = rows.join(chosen, on="id", how="inner", maintain_order="left")
        repeated = (
            kept.select(pl.exclude("repeat").repeat_by("repeat").explode()) if kept["repeat"].max() != 1 else kept
        )
        work.draft.summary.update(
            figures_of(repeated)
            | {
                "weights": dict(blend.weights),
                "take": dict(blend.take),
                "available": {s: f.height for s, f in sources.items()},
                "notes": dict(blend.notes),
            }
            | ({"ordered": True, "stages": dict(blend.stages)} if blend.stages is not None else {})
            | ({"passes": [asdict(part) for part in blend.course]} if blend.course else {})
        )

    return materialise("mix", method, inputs_of(pool, aim), bench, compute)


def course_of(blend: Blend) -> list[Stretch]:
    """The parts of a mixture: of its course, or one of each pool, in its stage."""
    if blend.course:
        return list(blend.course)
    stages = blend.stages or {}
    return [Stretch(name, n, 0, stages.get(name, len(stages))) for name, n in sorted(blend.take.items()) if n]


def chosen_of(ids: pl.Series, part: Stretch, rng_seed: int) -> pl.DataFrame:
    """Which examples make up a part: ``id``, ``repeat``, ``turn`` and ``stage``."""
    chosen = choose(ids, part.examples, seed=rng_seed)
    return chosen.with_columns(turn=pl.lit(part.turn, pl.Int64), stage=pl.lit(part.stage, pl.Int64))


def in_order(positions: pl.DataFrame, ids: pl.Series, parts: Sequence[pl.DataFrame], rng_seed: int) -> pl.DataFrame:
    """Members with repeats, ordered by turn and stage, then by a hash of (seed, id, occurrence): growth elsewhere moves
    nobody's neighbours. Parts are as `chosen_of` makes them.
    """
    rows = (
        pl.concat(parts)
        .with_columns(pl.int_ranges(0, pl.col("repeat")).alias("_times"))
        .explode("_times")
        .with_columns((pl.int_range(pl.len()).over("id")).alias("occurrence"))
        .join(positions.with_columns(ids.alias("id")), on="id", how="inner")
    )
    salt = rng_seed.to_bytes(8, "little", signed=True)
    keys = [
        hashlib.sha256(salt + example + int(k).to_bytes(4, "little")).digest()[:8]
        for example, k in rows.select("id", "occurrence").iter_rows()
    ]
    return rows.with_columns(pl.Series("key", keys, dtype=pl.Binary)).sort("turn", "stage", "key").select("home", "row")
