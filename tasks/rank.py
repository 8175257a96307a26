"""Score a pool. Cutting it is another step, so that a new budget reuses an expensive ranking."""

from dataclasses import replace

import polars as pl

from methods.rank import AnyRank
from schemas.errors import InvariantViolation
from schemas.examples import SCORES, conform
from schemas.lineage import DatasetRef
from tasks.bench import Bench
from tasks.materialise import Work, materialise
from tasks.proxies import stopping
from tasks.stage_task import stage_task


@stage_task("rank {method.method}")
def rank_examples(pool: DatasetRef, target: DatasetRef | None, method: AnyRank, bench: Bench) -> DatasetRef:
    """Scores of the pool's examples, higher is better; the members are the pool's."""
    inputs = [("pool", pool), *([("target", target)] if target else [])]

    def compute(work: Work) -> None:
        rows = work.store.pool(pool)
        aim = work.store.pool(target) if target else None
        tools = replace(work.using, once=stopping(work.using.once, work.store))
        scores = conform(method.rank(rows, target=aim, using=tools, rng=work.rng), SCORES, f"rank/{method.name}")
        if scores.height != rows.height or scores["id"].n_unique() != rows.height:
            raise InvariantViolation(f"rank/{method.name} scored {scores.height} rows of a pool of {rows.height}")
        dense = rows.select("id").join(scores, on="id", how="left", maintain_order="left").drop("id")
        work.draft.keep_members(work.store.describe(pool))
        work.draft.put("scores", dense)
        scored = dense["score"].drop_nulls()
        work.draft.summary.update(
            {
                "scored": scored.len(),
                "unscored": dense.height - scored.len(),
                "quantiles": {str(q): scored.quantile(q) for q in (0, 0.25, 0.5, 0.75, 1)} if scored.len() else {},
            }
        )

    return materialise("rank", method, inputs, bench, compute)


def scores_of(work: Work, ranking: DatasetRef, ids: pl.Series) -> pl.DataFrame:
    """A stored ranking as SCORES."""
    return work.store.part(ranking, "scores").with_columns(ids.alias("id")).select("id", pl.exclude("id"))


def unscored(ids: pl.Series) -> pl.DataFrame:
    """SCORES of a pool that nobody ranked."""
    return pl.DataFrame({"id": ids, "score": pl.Series([None] * ids.len(), dtype=pl.Float64)})
