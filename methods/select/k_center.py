"""Keep examples that are far from one another: every example of the pool has a kept one near."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.points.greedy import k_center
from methods.points.vectors import On, embedded_in_batches
from methods.select._budget import SetBudget, by_id, chosen
from methods.streamed import Batches, EmbeddedCut
from schemas.method import Using


class KCenter(EmbeddedCut, SetBudget):
    """Each example taken is the one farthest from all taken before; the first is the one nearest to the mean.

    Score: minus the distance to the nearest kept example, 0 for kept ones (Euclidean between unit vectors, 0 to 2). A
    larger budget keeps everything that a smaller one keeps; a token budget stops at the first that does not fit. Outliers
    come early: clean the pool first.

    Paper: Sener & Savarese 2018, https://arxiv.org/abs/1708.00489; greedy: Gonzalez 1985.
    """

    method: Literal["k-center"] = "k-center"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})
    ranked: ClassVar[bool] = False

    on: On = Field("both", description="text that is embedded: prompt, answer or both")

    def cut_rows(
        self, rows: pl.DataFrame, texts: Batches, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `EmbeddedCut`; draws no number."""
        order = by_id(rows)
        vectors = embedded_in_batches(texts, order, self.on, using)
        purse = self.purse(rows).ordered(order)
        most = min(rows.height, int(purse.total // max(1.0, purse.cost.min(initial=np.inf))))
        kept, distance = k_center(
            vectors, purse.total, lambda done: using.progress(done, max(done, most), "centers"), purse.cost
        )
        score = np.empty(rows.height)
        score[order] = np.where(np.isfinite(distance), -distance, np.nan)
        return chosen(rows, order[kept], score)
