"""Chance, a source as likely as the next: the stronger of the two random baselines."""

from typing import Literal

import numpy as np
import polars as pl

from methods.keyed import drawn_seed, keyed_uniform
from schemas.method import RankMethod, Using


class BalancedUniform(RankMethod):
    """A random order that takes one example of every source in turn, so that a cut has them in equal parts.

    Score: minus the example's place within its source's random order, minus a random fraction that orders the sources of
    one round; from ``hash(rng_seed, id)``. A source that is used up leaves its turns to the others.

    Paper: Ivison et al. 2025, Large-scale data selection for instruction tuning, https://arxiv.org/abs/2503.01807, where
    balanced random selection is a strong baseline.
    """

    method: Literal["balanced-uniform"] = "balanced-uniform"

    def reads(self) -> tuple[str, ...]:
        """No text."""
        return ()

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; takes one number from ``rng``."""
        seed = drawn_seed(rng)
        return pool.select(
            "id",
            "source",
            pl.Series("drawn", keyed_uniform(pool["id"], seed)),
            pl.Series("turn", keyed_uniform(pool["id"], seed + 1)),
        ).select(
            "id",
            (-(pl.struct("drawn", "id").rank("ordinal").over("source").cast(pl.Float64) - 1) - pl.col("turn")).alias(
                "score"
            ),
        )
