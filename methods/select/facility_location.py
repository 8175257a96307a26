"""Keep examples that stand for the others: the sum of similarities to the nearest kept one is as large as it gets."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.points.greedy import facility_location, nearest_graph
from methods.points.vectors import On, embedded_in_batches
from methods.select._budget import SetBudget, by_id, chosen
from methods.streamed import Batches, EmbeddedCut
from schemas.method import Using


class FacilityLocation(EmbeddedCut, SetBudget):
    """Each example taken adds the most similarity between the pool and what is kept (a medoid of what is still uncovered).

    Similarity is the cosine, not below 0, over each example's ``neighbors`` nearest; what is farther counts as 0. Score:
    the gain when an example was taken; null for the others. A larger budget keeps everything that a smaller one keeps;
    a token budget stops at the first that does not fit.

    Paper: Wei, Iyer & Bilmes 2015, Submodularity in data subset selection, https://proceedings.mlr.press/v37/wei15.html;
    used by Superfiltering.D, https://arxiv.org/abs/2402.00530
    """

    method: Literal["facility-location"] = "facility-location"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})
    ranked: ClassVar[bool] = False

    on: On = Field("both", description="text that is embedded: prompt, answer or both")
    neighbors: int = Field(128, ge=1, description="similar examples that each one may be served by")

    def cut_rows(
        self, rows: pl.DataFrame, texts: Batches, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `EmbeddedCut`; draws no number."""
        order = by_id(rows)
        vectors = embedded_in_batches(texts, order, self.on, using)
        graph = nearest_graph(vectors, self.neighbors, lambda done: using.progress(done, rows.height, "neighbours"))
        purse = self.purse(rows).ordered(order)
        kept, gain = facility_location(graph, purse.total, purse.cost)
        score = np.full(rows.height, np.nan)
        score[order[kept]] = gain
        return chosen(rows, order[kept], score)
