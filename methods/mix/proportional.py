"""Every source by its size, up to a cap: small tasks are not drowned by large ones."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.mix._blend import blend, sizes_of
from schemas.method import Blend, MixMethod, Using


class Proportional(MixMethod):
    """Examples-proportional mixing: weights in proportion to size, each size counted up to ``cap``.

    Without ``total_examples`` each source gives the examples it is counted with, so that nothing repeats.

    Paper: Raffel et al. 2020, T5, https://arxiv.org/abs/1910.10683, section 3.5.2; Wei et al. 2022, FLAN,
    https://arxiv.org/abs/2109.01652, with caps of 30,000 examples and 3,000 for the rate.
    """

    method: Literal["proportional"] = "proportional"

    cap: int | None = Field(None, gt=0, description="a source counts with at most this many examples; none = its size")
    total_examples: int | None = Field(None, gt=0, description="size of the mixture; by default the sum of the counts")
    max_repeats: float = Field(1.0, gt=0, description="how often one example may stand in the mixture, on average")

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
        counted = capped(list(sizes.values()), self.cap)
        return blend(sizes, [float(n) for n in counted], self.total_examples or sum(counted), self.max_repeats)


def capped(sizes: list[int], cap: int | None) -> list[int]:
    """Sizes up to the cap; 1e3, 1e4, 1e5, 1e6 under 3,000 weigh .1, .3, .3, .3."""
    return [n if cap is None else min(n, cap) for n in sizes]
