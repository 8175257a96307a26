"""Methods over a pool whose texts never lie in memory: read batch by batch, as often as needed, little kept of a row."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import polars as pl

from schemas.examples import EXAMPLES
from schemas.method import JudgeMethod, Progress, RankMethod, SelectMethod, Using

#: The pool from its beginning, in pieces of any size (EXAMPLES columns); may be called again.
Batches = Callable[[], Iterator[pl.DataFrame]]

_ROWS = 1 << 17  # of a pool in memory that are given as one batch


class Streamed(JudgeMethod):
    """A judging method that must see all rows but never needs all of their texts at once.

    Such a method has no ``audit`` and no rules that depend on the pool: `settled_rules` are its `rules`. ``in_pieces``
    says that the verdicts of a large pool are stored as several objects, so that they need not be held until the last.
    """

    in_pieces: ClassVar[bool] = True

    @abstractmethod
    def judge_batches(
        self, batches: Batches, rows: int, *, using: Using, rng: np.random.Generator
    ) -> Iterator[pl.DataFrame]:
        """VERDICTS of all ``rows`` examples in the order of the pool, in pieces, at least one."""

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `JudgeMethod`; says the same whatever the order of the rows."""
        return pl.concat(self.judge_batches(in_slices(pool), pool.height, using=using, rng=rng))


class StreamedRank(RankMethod):
    """A ranking that looks at the texts of all rows but never needs all of them at once."""

    @abstractmethod
    def rank_batches(
        self,
        batches: Batches,
        rows: int,
        *,
        target: pl.DataFrame | None,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """SCORES of all ``rows`` examples; a batch has the columns that the method `reads`, and ``id`` and ``source``."""

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`: the whole pool as one batch."""
        return self.rank_batches(lambda: iter([pool]), pool.height, target=target, using=using, rng=rng)


class MeasuredRank(StreamedRank):
    """A ranking by what is measured on each example alone: texts become a few numbers a row, batch by batch.

    Draws no number.
    """

    @abstractmethod
    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """``id`` and what `scores` needs of each example, without texts: the same for a row whatever stands beside it."""

    def scores(self, measured: pl.DataFrame) -> pl.DataFrame:
        """SCORES from what was measured on the whole pool; by default it is the scores already."""
        return measured

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)

    def rank_batches(
        self,
        batches: Batches,
        rows: int,
        *,
        target: pl.DataFrame | None,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """See `StreamedRank`."""
        found: list[pl.DataFrame] = []
        done = 0
        for batch in batches():
            found.append(self.measured(batch, part_of(using, done, batch.height, rows)))
            done += batch.height
        return self.scores(pl.concat(found or [self.measured(pl.DataFrame(schema=dict(EXAMPLES)), using)]))


class EmbeddedRank(RankMethod):
    """A ranking by the vectors of texts: the texts are read in batches to be embedded, the rest of a row is in memory."""

    @abstractmethod
    def rank_rows(
        self,
        rows: pl.DataFrame,
        texts: Batches,
        *,
        target: pl.DataFrame | None,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """SCORES of the ``rows`` (``id`` and ``source``), whose ``messages`` ``texts`` reads in the same order."""

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`."""
        return self.rank_rows(pool, in_slices(pool), target=target, using=using, rng=rng)

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)


class EmbeddedCut(SelectMethod):
    """A cut by the vectors of texts, as `EmbeddedRank` ranks; put before the class that says what a budget reads."""

    @abstractmethod
    def cut_rows(
        self,
        rows: pl.DataFrame,
        texts: Batches,
        ranking: pl.DataFrame,
        *,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """VERDICTS of the ``rows`` (what it reads but ``messages``), whose ``messages`` ``texts`` reads in that order."""

    def cut(self, pool: pl.DataFrame, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `SelectMethod`."""
        return self.cut_rows(pool, in_slices(pool), ranking, using=using, rng=rng)

    def reads(self) -> tuple[str, ...]:
        """The conversation, and what the budget is counted in."""
        return ("messages", *super().reads())


def pieces_of(batches: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows, at most so many at once."""
    for batch in batches:
        yield from batch.iter_slices(rows)


def rows_at(batches: Batches, places: np.ndarray) -> pl.DataFrame:
    """The rows at these places (int64) of a pool, in the order of the places; one pass, of which no more is kept."""
    order = np.argsort(places, kind="stable")
    ascending, before, found = places[order], 0, list[pl.DataFrame]()
    for batch in batches():
        here = slice(*np.searchsorted(ascending, [before, before + batch.height]))
        found.append(batch[ascending[here] - before])
        before += batch.height
    return pl.concat(found)[np.argsort(order)]


def in_slices(pool: pl.DataFrame) -> Batches:
    """A pool in memory, batch by batch."""
    return lambda: pool.iter_slices(_ROWS)


def part_of(using: Using, before: int, rows: int, total: int) -> Using:
    """The engines for one batch of a pool, whose progress counts in the whole of it."""
    return using if rows == total else replace(using, progress=_shifted(using.progress, before, rows, total))


def _shifted(progress: Progress, before: int, rows: int, whole: int) -> Progress:
    def told(done: int, total: int, note: str = "") -> None:
        progress(before + (done * rows // total if total else rows), whole, note)

    return told
