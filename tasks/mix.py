"""Blend the sources of a pool: how much of each, which examples, in which order."""

import hashlib
from dataclasses import replace

import polars as pl

from methods.mix import AnyMix
from methods.rounding import choose
from schemas.examples import FATES
from schemas.lineage import DatasetRef, Rule
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
        chosen = pl.concat(
            [choose(sources[s]["id"], n, seed=work.bench.rng_seed) for s, n in sorted(blend.take.items()) if n]
        )  # columns id, repeat (times it stands in the mixture)
        took = rows.select("id").join(chosen, on="id", how="left", maintain_order="left")
        times = took["repeat"].fill_null(0)
        said = took.select(
            "id",
            pl.when(times > 0).then(pl.lit(FATES[0])).otherwise(pl.lit(FATES[1])).alias("fate"),
            pl.when(times > 0).then(None).otherwise(pl.lit(OVER_QUOTA.name)).alias("reason"),
            pl.lit(None, pl.Float64).alias("score"),
            pl.lit(None, pl.String).alias("evidence"),
        )
        stages = None
        if blend.stages is not None:
            stages = rows["source"].replace_strict(dict(blend.stages), default=len(blend.stages), return_dtype=pl.Int64)
        work.draft.homes = list(work.store.describe(pool).homes)
        work.draft.rules = [OVER_QUOTA]
        work.draft.put("verdicts/pool", at_rest(said, [OVER_QUOTA], "mix"))
        work.draft.put("members", shuffled(work.store.positions(pool), rows["id"], times, work.bench.rng_seed, stages))
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
        )

    return materialise("mix", method, inputs_of(pool, aim), bench, compute)


def shuffled(
    positions: pl.DataFrame, ids: pl.Series, times: pl.Series, rng_seed: int, stages: pl.Series | None = None
) -> pl.DataFrame:
    """Members with repeats, ordered by stage, then by a hash of (seed, id, occurrence): growth elsewhere moves nobody's
    neighbours.
    """
    stage = pl.lit(0) if stages is None else stages
    rows = (
        positions.with_columns(ids.alias("id"), times.alias("times"), stage.alias("stage"))
        .filter(pl.col("times") > 0)
        .with_columns(pl.int_ranges(0, pl.col("times")).alias("occurrence"))
        .explode("occurrence")
    )
    salt = rng_seed.to_bytes(8, "little", signed=True)
    keys = [
        hashlib.sha256(salt + example + int(k).to_bytes(4, "little")).digest()[:8]
        for example, k in rows.select("id", "occurrence").iter_rows()
    ]
    return rows.with_columns(pl.Series("key", keys, dtype=pl.Binary)).sort("stage", "key").select("home", "row")
