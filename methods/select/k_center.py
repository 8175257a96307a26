"""Keep examples that are far from one another: every example of the pool has a kept one near."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.greedy import k_center
from methods.select._budget import SetBudget, by_id, chosen
from methods.vectors import On, embedded
from schemas.method import Using


class KCenter(SetBudget):
    """Each example taken is the one farthest from all taken before; the first is the one nearest to the mean.

    Score: minus the distance to the nearest kept example, 0 for kept ones (Euclidean between unit vectors, 0 to 2). A
    larger budget keeps everything that a smaller one keeps. Outliers come early: clean the pool first.

    Paper: Sener & Savarese 2018, https://arxiv.org/abs/1708.00489; greedy: Gonzalez 1985.
    """

    method: Literal["k-center"] = "k-center"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})
    ranked: ClassVar[bool] = False

    on: On = Field("both", description="text that is embedded: prompt, answer or both")

    def cut(self, pool: pl.DataFrame, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `SelectMethod`; draws no number."""
        order = by_id(pool)
        rows = embedded(pool[order], self.on, using)
        room = self.room(pool.height)
        kept, distance = k_center(rows, room, lambda done: using.progress(done, room, "centers"))
        score = np.empty(pool.height)
        score[order] = -distance
        return chosen(pool, order[kept], score)
