"""A pool as a method is given it: the columns that the method reads, and no text in memory for one that reads none."""

import polars as pl

from methods.select._cut import estimated_tokens
from methods.streamed import Batches
from schemas.lineage import DatasetRef
from schemas.method import TOKENS, Method
from storage.store import Store

#: Examples whose texts are in memory together where a pool is read through.
BATCH_ROWS = 32_768

#: The column of the texts.
TEXTS = ("messages",)

#: What every method is given beside what it reads.
ALWAYS = ("id", "source")


def columns_for(method: Method) -> tuple[str, ...]:
    """What is loaded of a pool for this method: ALWAYS first, then what else it reads."""
    return tuple(dict.fromkeys((*ALWAYS, *method.reads())))


def pool_for(store: Store, ref: DatasetRef, method: Method, but: tuple[str, ...] = ()) -> pl.DataFrame:
    """The version's examples as the method reads them, in member order; derived columns are counted batch by batch.

    Without the columns that it is given in batches (``but``).
    """
    wanted = [name for name in columns_for(method) if name not in but]
    pool = store.pool(ref, [name for name in wanted if name != TOKENS])
    return pool.with_columns(tokens_in(store, ref)) if TOKENS in wanted and "messages" not in wanted else pool


def batches_for(store: Store, ref: DatasetRef, method: Method) -> Batches:
    """The version's examples as the method reads them, in member order, batch by batch."""
    return lambda: store.batches(ref, BATCH_ROWS, columns_for(method))


def texts_of(store: Store, ref: DatasetRef) -> Batches:
    """The conversations alone, in member order."""
    return lambda: store.batches(ref, BATCH_ROWS, TEXTS)


def tokens_in(store: Store, ref: DatasetRef) -> pl.Series:
    """Estimated tokens of each example, Int64, in member order."""
    counts = [_tokens(rows) for rows in texts_of(store, ref)()]
    return pl.concat(counts) if counts else pl.Series(TOKENS, [], dtype=pl.Int64)


def _tokens(rows: pl.DataFrame) -> pl.Series:
    return rows.select(estimated_tokens().alias(TOKENS))[TOKENS]
