"""The weights you say."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from methods.mix._blend import blend, sizes_of
from schemas.errors import UsageError
from schemas.method import Blend, MixMethod, Using


class Fixed(MixMethod):
    """Given weights, normalised to sum to 1; a source that is not named gets nothing.

    Without ``total_examples`` the mixture is as large as it can be with exactly these weights and no example more than
    ``max_repeats`` times. With it, a source that is too small gives what it has and the others make up for it.

    Paper: none, baseline.
    """

    method: Literal["fixed"] = "fixed"

    weights: dict[str, float] = Field(description="weight per source, 0 or more; they need not sum to 1")
    total_examples: int | None = Field(None, gt=0, description="size of the mixture, repeats included")
    max_repeats: float = Field(1.0, gt=0, description="how often one example may stand in the mixture, on average")

    @field_validator("weights")
    @classmethod
    def _are_weights(cls, weights: dict[str, float]) -> dict[str, float]:
        if not weights or min(weights.values()) < 0 or not 0 < sum(weights.values()) < float("inf"):
            raise ValueError("weights are 0 or more, finite, and not all 0")
        return weights

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
        """See `MixMethod`; draws no number. Raises ``UsageError`` for a source that is not among the pools, or that
        should set the size of the mixture and is empty.
        """
        sizes = sizes_of(pools)
        unknown = sorted(set(self.weights) - set(sizes))
        if unknown:
            raise UsageError(f"mix names the source {unknown[0]!r}; the pools are {', '.join(sizes)}")
        wanted = [self.weights.get(name, 0.0) for name in sizes]
        total = self.total_examples
        if total is None:
            empty = [name for name, w in zip(sizes, wanted, strict=True) if w and not sizes[name]]
            if empty:
                raise UsageError(
                    f"mix gives {empty[0]!r} a weight of {self.weights[empty[0]]:g}, and it has no examples; "
                    "leave it out, or give total_examples"
                )
            share = [w / sum(wanted) for w in wanted]
            total = int(min(self.max_repeats * n / w for n, w in zip(sizes.values(), share, strict=True) if w) + 1e-9)
        return blend(sizes, wanted, total, self.max_repeats)
