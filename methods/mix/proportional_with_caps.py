"""Every source by its size up to a cap, as the instruction collections are mixed, with fixed shares for some."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from methods.mix._blend import blend, sizes_of
from schemas.errors import UsageError
from schemas.method import Blend, MixMethod, Using


class ProportionalWithCaps(MixMethod):
    """Examples-proportional mixing with two caps (FLAN) and fixed shares beside it (OPT-IML).

    A source counts with ``min(size, source_cap, rate_cap)`` examples, so that a small task is not drowned by a large one;
    the sources under ``shares`` get these shares of the whole, and the others divide the rest. No example repeats more
    than ``max_repeats`` times. Sizes 1e3, 1e4, 1e5 and 1e6 with FLAN's rate cap of 3,000 weigh .1, .3, .3 and .3.

    Paper: Wei et al. 2022, FLAN, https://arxiv.org/abs/2109.01652 (caps 30,000 and 3,000); Iyer et al. 2022, OPT-IML,
    https://arxiv.org/abs/2212.12017 (one cap, and small fixed shares of pretraining, reasoning and dialogue data).
    """

    method: Literal["proportional-with-caps"] = "proportional-with-caps"

    source_cap: int = Field(30_000, gt=0, description="a source gives at most this many examples, times max_repeats")
    rate_cap: int = Field(3_000, gt=0, description="a source's rate counts with at most this many examples")
    shares: dict[str, float] = Field({}, description="sources with a share of the whole instead, 0 to 1; sum below 1")
    total_examples: int | None = Field(None, gt=0, description="size of the mixture; by default what the caps leave")
    max_repeats: float = Field(1.0, gt=0, description="how often one example may stand in the mixture, on average")

    @field_validator("shares")
    @classmethod
    def _leave_room(cls, shares: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-12:
            raise ValueError("shares are 0 to 1 each and at most 1 in all")
        return shares

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
        """See `MixMethod`; draws no number. Raises ``UsageError`` for a share of a source that is not among the pools."""
        sizes = sizes_of(pools)
        unknown = sorted(set(self.shares) - set(sizes))
        if unknown:
            raise UsageError(f"shares names the source {unknown[0]!r}; the pools are {', '.join(sizes)}")
        counted = {name: min(n, self.source_cap, self.rate_cap) for name, n in sizes.items() if name not in self.shares}
        rest = 1 - sum(self.shares.values())
        if not any(counted.values()) and rest > 1e-12 and self.shares:
            raise UsageError(f"shares leave {rest:.3g} for other sources, and no other has examples; let them sum to 1")
        every = max(1, sum(counted.values()))
        wanted = [self.shares[name] if name in self.shares else rest * counted[name] / every for name in sizes]
        room = sum(min(n, self.source_cap) for n in sizes.values())
        limited = {name: min(n, self.source_cap) for name, n in sizes.items()}
        made = blend(limited, wanted, self.total_examples or room, self.max_repeats)
        repetition = {name: made.take[name] / n if n else 0.0 for name, n in sizes.items()}
        return Blend(made.weights, made.take, {**made.notes, "repetition": repetition, "counted": counted})
