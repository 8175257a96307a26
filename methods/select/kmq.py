"""Keep a share of every cluster, drawn by quality: diversity first, then chance in proportion to the ranking."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.keyed import keyed_uniform
from methods.mixtures.rounding import largest_remainder
from methods.points.kmeans import kmeans
from methods.points.vectors import On, embedded_in_batches
from methods.select._budget import SetBudget, by_id, chosen, clusters_told, shared_out
from methods.select._cut import finite_scores
from methods.streamed import Batches, EmbeddedCut
from schemas.errors import UsageError
from schemas.method import Using


class KMQ(EmbeddedCut, SetBudget):
    """k-means over embeddings; each cluster gets its share of the budget and gives examples with chance by quality.

    Quality is the ranking's score where all are positive, else the rank (``weights``). Draws are without replacement, from
    ``hash(rng_seed, id)``. Score: the draw's key (-log u / quality, negated), comparable within a cluster; null for what
    the ranking could not score, which is taken last.

    Paper: Yu et al. 2024, Diversify and conquer, https://arxiv.org/abs/2409.11378 (kMQ). Departures: probabilities are
    proportional to quality, not to its softmax, and budgets sum to the budget by largest remainder. Of a token budget each
    cluster gets its share of the pool's tokens.
    """

    method: Literal["kmq"] = "kmq"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    on: On = Field("both", description="text that is embedded: prompt, answer or both")
    clusters: int | None = Field(
        None, ge=1, description="how many clusters; by default the square root of half the pool"
    )
    weights: Literal["score", "rank", "none"] = Field(
        "score", description="score: as ranked, above 0; rank: place in the ranking; none: every example alike"
    )

    def cut_rows(
        self, rows: pl.DataFrame, texts: Batches, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `EmbeddedCut`; raises ``UsageError`` for scores at or below 0 where ``weights: score``."""
        seed = int(rng.integers(2**31))
        order = by_id(rows)
        vectors = embedded_in_batches(texts, order, self.on, using)
        count = self.clusters or max(1, round((len(vectors) / 2) ** 0.5))
        label = kmeans(vectors, count, np.random.default_rng(seed)).label
        scores = rows.select("id").join(finite_scores(ranking), on="id", how="left", maintain_order="left")["score"]
        quality = _quality(scores.to_numpy()[order], self.weights)
        key = np.log(np.clip(keyed_uniform(rows["id"][order], seed + 1), 1e-300, 1.0)) / np.maximum(quality, 1e-12)
        key[np.isnan(quality)] = -np.inf
        purse = self.purse(rows).ordered(order)
        groups = [np.flatnonzero(label == name) for name in np.unique(label)]
        groups = [members[np.argsort(-key[members], kind="stable")] for members in groups]
        worth = [float(purse.cost[members].sum()) for members in groups]  # a cluster's share of the pool
        if self.budget_tokens is None:
            budgets = largest_remainder(worth, int(purse.total), [len(members) for members in groups])
        else:
            budgets = shared_out(worth, purse.total, [purse.cost[members] for members in groups])
        kept = [int(i) for members, budget in zip(groups, budgets, strict=True) for i in members[:budget]]
        score = np.full(rows.height, np.nan)
        score[order] = np.where(np.isinf(key), np.nan, key)
        return chosen(rows, order[np.array(kept, dtype=np.int64)], score, clusters_told(label, order))


def _quality(scores: np.ndarray, weights: str) -> np.ndarray:
    """Positive weights, NaN where there is no score."""
    known = ~np.isnan(scores)
    if weights == "none":
        return np.ones(len(scores))
    if weights == "rank":
        place = np.full(len(scores), np.nan)
        place[known] = (np.argsort(np.argsort(scores[known], kind="stable"), kind="stable") + 1) / max(1, known.sum())
        return place
    if known.any() and scores[known].min() <= 0:
        raise UsageError(
            f"select kmq: weights need scores above 0 and the ranking's lowest is {scores[known].min():g}; "
            "use `weights: rank`, or `none`"
        )
    return scores
