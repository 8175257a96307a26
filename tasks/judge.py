"""Filter and dedup: a method gives each example its fate, the store keeps all of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from methods.dedup import AnyDedup
from methods.filter import AnyFilter
from methods.streamed import Streamed
from schemas.errors import InvariantViolation
from schemas.lineage import DatasetRef
from schemas.method import JudgeMethod
from tasks.bench import Bench
from tasks.columns import batches_for, columns_for, pool_for
from tasks.events import Event, emit
from tasks.figures import figures_of_members
from tasks.materialise import Work, materialise
from tasks.settle import PIECE_ROWS, aligned, named, settle, settle_pieces
from tasks.shards import judged_in_shards, map_shards, shards_of, verdicts_of
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


def _judge(work: Work, pool: DatasetRef, method: AnyFilter | AnyDedup) -> None:
    count = work.store.describe(pool).counts.rows_out
    if isinstance(method, Streamed):
        _judge_streamed(work, pool, count, method)
    elif method.per_example and shards_of(count, work.bench) > 1:
        _judge_in_shards(work, pool, count, method)
    else:
        _judge_whole(work, pool, method)
    emit(Event("progress", work.step.stage, method.name, str(work.step.output), done=count, total=count))


def _judge_streamed(work: Work, pool: DatasetRef, rows: int, method: Streamed) -> None:
    """A pool that is never in memory whole: read once (or more) to be judged; what stays is read once more, for figures.

    Verdicts are settled beside ids, without a text.
    """
    said_of = method.judge_batches(batches_for(work.store, pool, method), rows, using=work.using, rng=work.rng)

    def verdicts() -> Iterator[pl.DataFrame]:
        for examples, said in together(work.store.batches(pool, PIECE_ROWS, ["id"]), said_of):
            yield aligned(examples["id"], said, named(work))

    goes_on = settle_pieces(work, "pool", verdicts(), list(method.rules()), in_pieces=method.in_pieces)
    _summarize(work, pool, goes_on, {})


def _judge_in_shards(work: Work, pool: DatasetRef, rows: int, method: AnyFilter | AnyDedup) -> None:
    """A pool whose shards were judged apart, or are now: their verdicts are settled one shard after the other."""
    receipts = judged_in_shards(work, rows, method)
    audited = type(method).audit is not JudgeMethod.audit
    tables: list[Mapping[str, Any]] = []

    def ids() -> Iterator[pl.DataFrame]:
        return work.store.batches(pool, PIECE_ROWS, ["id"])

    def verdicts() -> Iterator[pl.DataFrame]:
        columns = columns_for(method) if audited else ["id"]
        shards = work.store.batches(pool, work.bench.shard_rows, columns)
        for examples, receipt in zip(shards, receipts, strict=True):
            said = aligned(examples["id"], verdicts_of(work, receipt), named(work))
            if audited:
                tables.append(method.audit(examples, said))
            yield said

    goes_on = settle_pieces(work, "pool", (said for _, said in together(ids(), verdicts())), list(method.rules()))
    _summarize(work, pool, goes_on, added(tables))


def _judge_whole(work: Work, pool: DatasetRef, method: AnyFilter | AnyDedup) -> None:
    """A pool that the method sees at once; what it read of the texts is let go before its verdicts are settled."""
    rows = pool_for(work.store, pool, method)
    said = method.judge(rows, using=work.using, rng=work.rng)
    rules = list(method.settled_rules(said))
    ids, audit = rows["id"], method.audit(rows, said)
    del rows
    _summarize(work, pool, settle(work, "pool", ids, said, rules), audit)


def _summarize(work: Work, pool: DatasetRef, goes_on: pl.Series, audit: Mapping[str, Any]) -> None:
    work.draft.summary.update(figures_of_members(work.store, pool, work.store.positions(pool).filter(goes_on)))
    if audit:
        work.draft.summary["audit"] = dict(audit)


def added(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The audits of parts of a pool as that of the whole: counts added up, at any depth.

    >>> added([{"kinds": {"email": 1}}, {"kinds": {"email": 2, "card": 1}}])
    {'kinds': {'card': 1, 'email': 3}}
    """
    found: dict[str, Any] = {}
    for name in sorted({name for table in tables for name in table}):
        values = [table[name] for table in tables if name in table]
        found[name] = added(values) if isinstance(values[0], Mapping) else sum(values)
    return found


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
