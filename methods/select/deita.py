"""Keep the best examples that are not too much like a better one."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.points.greedy import apart
from methods.points.vectors import On, embedded_in_batches
from methods.select._budget import SetBudget, chosen
from methods.select._cut import OVER_BUDGET, ranked
from methods.streamed import Batches, EmbeddedCut
from schemas.lineage import Rule
from schemas.method import Using

TOO_SIMILAR = "too-similar"


class Deita(EmbeddedCut, SetBudget):
    """Walks the ranking from the top and keeps an example unless its cosine to a kept one is above ``max_similarity``.

    Score: that of the ranking. What is passed over names the kept example it resembles. Two kept examples are never more
    alike than the limit. A larger budget keeps everything that a smaller one keeps; a token budget stops at the first that
    does not fit.

    Paper: Liu et al. 2024, What makes good data for alignment (DEITA), https://arxiv.org/abs/2312.15685, repr filter; as
    for batches of one, where the official code also compares with rejected members of a batch.
    """

    method: Literal["deita"] = "deita"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    on: On = Field("both", description="text that is embedded: prompt, answer or both")
    max_similarity: float = Field(0.9, ge=-1, le=1, description="largest cosine between two kept examples")

    def rules(self) -> Sequence[Rule]:
        """``too-similar``, then over budget."""
        return (
            Rule(
                name=TOO_SIMILAR,
                says="it is too much like a kept example that ranks higher",
                threshold=self.max_similarity,
                direction="none",
            ),
            OVER_BUDGET,
        )

    def cut_rows(
        self, rows: pl.DataFrame, texts: Batches, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `EmbeddedCut`; draws no number."""
        order = ranked(rows, ranking)
        at = order["row"].to_numpy().astype(np.int64)
        vectors = embedded_in_batches(texts, at, self.on, using)
        purse = self.purse(rows).ordered(at)
        kept, nearest, whom = apart(vectors, self.max_similarity, purse.total, purse.cost)
        score = np.full(rows.height, np.nan)
        score[at] = order["score"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        ids = rows["id"].to_list()
        alike = {
            int(at[i]): {"like": ids[at[whom[i]]].hex(), "similarity": round(float(nearest[i]), 6)}
            for i in np.flatnonzero(nearest > self.max_similarity)
        }
        verdicts = chosen(rows, at[kept], score, alike, OVER_BUDGET.name)
        named = pl.Series([i in alike for i in range(rows.height)])
        return verdicts.with_columns(
            pl.when(named & (pl.col("fate") == "reject")).then(pl.lit(TOO_SIMILAR)).otherwise("reason").alias("reason")
        )
