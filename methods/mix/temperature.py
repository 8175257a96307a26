"""Between every source alike and every example alike."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.mix._blend import blend, sizes_of
from schemas.method import Blend, MixMethod, Using


class Temperature(MixMethod):
    """Weights in proportion to size to the power of 1/temperature: 1 is proportional, large is uniform over sources.

    Paper: Arivazhagan et al. 2019, Massively multilingual NMT in the wild, https://arxiv.org/abs/1907.05019, section 4.
    """

    method: Literal["temperature"] = "temperature"

    temperature: float = Field(2.0, ge=1, description="1 = proportional to size; the larger, the more uniform")
    total_examples: int | None = Field(None, gt=0, description="size of the mixture; by default that of all pools")
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
        return blend(
            sizes,
            temperature_weights(list(sizes.values()), self.temperature),
            self.total_examples or sum(sizes.values()),
            self.max_repeats,
        )


def temperature_weights(sizes: list[int], temperature: float) -> list[float]:
    """``n ** (1/T)``, normalised; sizes 1e3, 1e4, 1e5, 1e6 with T = 2 give .02184, .06907, .21841, .69068."""
    powers = [(n / max(sizes)) ** (1 / temperature) for n in sizes]
    return [p / sum(powers) for p in powers]
