"""Score a pool. Cutting it is another step, so that a new budget reuses an expensive ranking."""

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from methods.asking.sampling import CHUNK
from methods.rank import AnyRank
from methods.streamed import EmbeddedRank, StreamedRank
from schemas.errors import InvariantViolation
from schemas.examples import SCORES, conform
from schemas.lineage import DatasetRef
from tasks.bench import Bench
from tasks.columns import BATCH_ROWS, TEXTS, columns_for, pool_for, texts_of
from tasks.materialise import Work, materialise
from tasks.proxies import stopping
from tasks.settle import all_different, in_order_of
from tasks.stage_task import stage_task


@stage_task("rank {method.method}")
def rank_examples(pool: DatasetRef, target: DatasetRef | None, method: AnyRank, bench: Bench) -> DatasetRef:
    """Scores of the pool's examples, higher is better; the members are the pool's."""
    inputs = [("pool", pool), *([("target", target)] if target else [])]

    def compute(work: Work) -> None:
        aim = work.store.pool(target) if target else None
        ids, said = ranked(work, pool, method, aim)
        scores = conform(said, SCORES, f"rank/{method.name}")
        if scores.height != len(ids) or not all_different(scores["id"]):
            raise InvariantViolation(f"rank/{method.name} scored {scores.height} rows of a pool of {len(ids)}")
        dense = in_order_of(ids, scores).drop("id")
        del ids, said, scores
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


def ranked(work: Work, pool: DatasetRef, method: AnyRank, aim: pl.DataFrame | None) -> tuple[pl.Series, pl.DataFrame]:
    """The pool's ids in order, and what the method says of them; texts are read in batches where it can do with that."""
    tools = replace(work.using, once=stopping(work.using.once, work.store))
    if isinstance(method, EmbeddedRank):
        rows, texts = pool_for(work.store, pool, method, TEXTS), texts_of(work.store, pool)
        return rows["id"], method.rank_rows(rows, texts, target=aim, using=tools, rng=work.rng)
    if not isinstance(method, StreamedRank):
        rows = pool_for(work.store, pool, method)
        return rows["id"], method.rank(rows, target=aim, using=tools, rng=work.rng)
    columns, count = columns_for(method), work.store.describe(pool).counts.rows_out

    def batches() -> Iterator[pl.DataFrame]:
        return work.store.batches(pool, batch_of(count), columns)

    said = method.rank_batches(batches, count, target=aim, using=tools, rng=work.rng)
    return work.store.pool(pool, ["id"])["id"], said


def batch_of(count: int) -> int:
    """Rows of a batch of so many: whole lists of an engine's requests, and enough of them left for the last batch.

    An engine that can score nothing of a batch is taken for down, which a handful of rows at the end would not show.

    >>> [(size, (count - 1) % size + 1) for count in (500, 32_773, 70_000) for size in [batch_of(count)]]
    [(500, 500), (28672, 4101), (32768, 4464)]
    """
    if count <= BATCH_ROWS:
        return max(1, count)
    return max(
        range(BATCH_ROWS // 2, BATCH_ROWS + 1, CHUNK), key=lambda size: (min((count - 1) % size + 1, 4 * CHUNK), size)
    )


def scores_of(work: Work, ranking: DatasetRef, ids: pl.Series) -> pl.DataFrame:
    """A stored ranking as SCORES, without the parts of its scores."""
    return work.store.part(ranking, "scores", ["score"]).select(ids.alias("id"), "score")


def unscored(ids: pl.Series) -> pl.DataFrame:
    """SCORES of a pool that nobody ranked."""
    return pl.DataFrame({"id": ids, "score": pl.Series([None] * ids.len(), dtype=pl.Float64)})
