"""Judging a pool that never lies in memory: read batch by batch, as often as needed, with little kept of each row."""

from abc import abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from schemas.method import JudgeMethod, Using

#: The pool from its beginning, in pieces of any size (EXAMPLES columns); may be called again.
Batches = Callable[[], Iterator[pl.DataFrame]]

_ROWS = 1 << 17  # of a pool in memory that are given as one batch


class Streamed(JudgeMethod):
    """A judging method that must see all rows but never needs all of their texts at once.

    Such a method has no ``audit`` and no rules that depend on the pool: `settled_rules` are its `rules`.
    """

    @abstractmethod
    def judge_batches(self, batches: Batches, rows: int, *, using: Using) -> Iterator[pl.DataFrame]:
        """VERDICTS of all ``rows`` examples in the order of the pool, in pieces, at least one; draws no number."""

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `JudgeMethod`; draws no number, and says the same whatever the order of the rows."""
        return pl.concat(self.judge_batches(lambda: pool.iter_slices(_ROWS), pool.height, using=using))
