"""Every source alike, as far as nothing repeats too often."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.mix._blend import blend, sizes_of
from schemas.method import Blend, MixMethod, Using


class UniMax(MixMethod):
    """Equal shares for all sources, but no example more than ``max_repeats`` times; what is left goes to larger ones.

    Sources of 1e3, 1e4, 1e5 and 1e6 examples, 300,000 wanted and 4 repeats allowed give 4,000, 40,000, 128,000 and
    128,000.

    Paper: Chung et al. 2023, UniMax, https://arxiv.org/abs/2304.09151, algorithm 1.
    """

    method: Literal["unimax"] = "unimax"

    total_examples: int | None = Field(None, gt=0, description="size of the mixture; by default that of all pools")
    max_repeats: float = Field(4.0, gt=0, description="how often one example may stand in the mixture, on average")

    def reads(self) -> tuple[str, ...]:
        """Sizes are all that counts."""
        return ("source",)

    def weigh(
        self,
        pools: Mapping[str, pl.DataFrame],
        *,
        using: Using,
        rng: np.random.Generator,
        target: pl.DataFrame | None = None,
    ) -> Blend:
        """See `MixMethod`; draws no number."""
        sizes = sizes_of(pools)
        wanted = [1.0 if n else 0.0 for n in sizes.values()]
        return blend(sizes, wanted, self.total_examples or sum(sizes.values()), self.max_repeats)
