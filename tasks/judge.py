"""Filter and dedup: a method gives each example its fate, the store keeps all of them."""

from collections.abc import Iterable, Iterator

import polars as pl

from methods.dedup import AnyDedup
from methods.filter import AnyFilter
from methods.streamed import Streamed
from schemas.errors import InvariantViolation
from schemas.lineage import DatasetRef
from schemas.method import JudgeMethod
from tasks.bench import Bench
from tasks.events import Event, emit
from tasks.figures import Figures, figures_of
from tasks.materialise import Work, materialise
from tasks.settle import settle, settle_batches
from tasks.shards import judged_in_shards, map_shards, shards_of
from tasks.stage_task import stage_task


def filter_examples(pool: DatasetRef, method: AnyFilter, bench: Bench) -> DatasetRef:
    """Each example judged alone; a ``per_example`` method over a large pool is mapped over shards, each one durable."""
    map_shards("filter", pool, method, bench)
    return filter_pool(pool, method, bench)


@stage_task("filter {method.method}")
def filter_pool(pool: DatasetRef, method: AnyFilter, bench: Bench) -> DatasetRef:
    """The verdicts of a filter on a whole pool, from its shards where it has any."""
    return materialise("filter", method, [("pool", pool)], bench, lambda work: _judge(work, pool, method))


def dedup_examples(pool: DatasetRef, method: AnyDedup, bench: Bench) -> DatasetRef:
    """Examples that repeat another are dropped; each names the one that stays."""
    map_shards("dedup", pool, method, bench)
    return dedup_pool(pool, method, bench)


@stage_task("dedup {method.method}")
def dedup_pool(pool: DatasetRef, method: AnyDedup, bench: Bench) -> DatasetRef:
    """The verdicts of a dedup method on a whole pool."""
    return materialise("dedup", method, [("pool", pool)], bench, lambda work: _judge(work, pool, method))


#: Examples that are settled together: with what a method keeps of each row, this bounds the memory of a step.
BATCH_ROWS = 1 << 17


def _judge(work: Work, pool: DatasetRef, method: AnyFilter | AnyDedup) -> None:
    if isinstance(method, Streamed):
        return _judge_streamed(work, pool, method)
    rows = work.store.pool(pool)
    if method.per_example and shards_of(rows.height, work.bench) > 1:
        said = judged_in_shards(work, rows.height, method)
    else:
        said = method.judge(rows, using=work.using, rng=work.rng)
    _finish(work, rows, said, method)


def _judge_streamed(work: Work, pool: DatasetRef, method: Streamed) -> None:
    """A pool that is never in memory whole: read once (or more) to be judged, and once to be settled."""
    rows, figures = work.store.describe(pool).counts.rows_out, Figures()

    def batches() -> Iterator[pl.DataFrame]:
        return work.store.batches(pool, BATCH_ROWS)

    def counted() -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        for examples, said in together(batches(), method.judge_batches(batches, rows, using=work.using)):
            figures.add(examples.join(said.filter(fate="keep").select("id"), on="id", how="semi"))
            yield examples, said

    settle_batches(work, "pool", counted(), list(method.rules()))
    work.draft.summary.update(figures.summary())
    emit(Event("progress", work.step.stage, method.name, str(work.step.output), done=rows, total=rows))


def together(
    batches: Iterable[pl.DataFrame], said: Iterable[pl.DataFrame]
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Each batch of examples with its verdicts, of two streams in the same order that are cut differently.

    ``InvariantViolation`` where one is shorter than the other.
    """
    pieces = iter(said)
    held = next(pieces, pl.DataFrame())
    for examples in batches:
        while held.height < examples.height:
            more = next(pieces, None)
            if more is None:
                raise InvariantViolation(f"{held.height} verdicts are left for the next {examples.height} examples")
            held = pl.concat([held, more]) if held.height else more
        yield examples, held.head(examples.height)
        held = held.slice(examples.height)
    if held.height or any(more.height for more in pieces):
        raise InvariantViolation("there are more verdicts than examples")


def _finish(work: Work, rows: pl.DataFrame, said: pl.DataFrame, method: AnyFilter | AnyDedup) -> None:
    settle(work, "pool", rows, said, list(method.settled_rules(said)))
    kept = rows.join(said.filter(pl.col("fate").is_in(["keep", "edit"])).select("id"), on="id", how="semi")
    work.draft.summary.update(figures_of(kept))
    if isinstance(method, JudgeMethod) and (audit := method.audit(rows, said)):
        work.draft.summary["audit"] = dict(audit)
    emit(Event("progress", work.step.stage, method.name, str(work.step.output), done=rows.height, total=rows.height))
