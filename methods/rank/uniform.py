"""Chance: the baseline that every ranking must beat."""

from typing import Literal

import numpy as np
import polars as pl

from methods.keyed import drawn_seed, keyed_uniform
from schemas.method import RankMethod, Using


class Uniform(RankMethod):
    """A random order that belongs to the ids: the same in any row order and sharding.

    Score: uniform in [0, 1), from ``hash(rng_seed, id)``. Paper: none, baseline.
    """

    method: Literal["uniform"] = "uniform"

    def reads(self) -> tuple[str, ...]:
        """No text."""
        return ()

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; takes one number from ``rng``."""
        return pl.DataFrame({"id": pool["id"], "score": keyed_uniform(pool["id"], drawn_seed(rng))})
