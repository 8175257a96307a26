"""Measure a grid of halvings, extrapolate each run to a longer training, fit the exponential law, take its minimum."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from methods.mix._lawful import EXACT, ROUGH, LawMix
from methods.mixtures.designs import halvings
from methods.mixtures.laws import Exponential, Fitted, Law
from methods.mixtures.proposals import best_shares
from methods.mixtures.runs import Lab, Run, runs_of
from methods.mixtures.step_laws import extrapolated
from schemas.errors import UsageError


class DataMixingLaws(LawMix):
    """Data mixing laws, nested: a law of training length per run, then ``c + k exp(t · weights)`` over the mixtures.

    Amounts in the measured mixtures are halvings of the largest, down to 1/16, or none. With ``checkpoints`` of 3 or
    more each run is measured so often on its way, and its loss at ``extrapolate`` times the training is read off
    ``c + a * steps ** -b`` (one b per group); the law is fitted to those. Weights are 0 to 1 and sum to 1. Departs from
    the paper in that there is no law of model size, and that the minimum is found exactly, the law being convex, instead
    of on the grid.

    Paper: Ye et al. 2025, Data Mixing Laws, https://arxiv.org/abs/2403.16952
    """

    method: Literal["data-mixing-laws"] = "data-mixing-laws"

    proxies: int = Field(32, ge=2, description="mixtures to measure")
    checkpoints: int = Field(1, ge=1, description="measurements on the way of a run; 3 or more to extrapolate")
    extrapolate: float = Field(1.0, ge=1, description="how many times longer the training is for which to mix")

    def law(self) -> Law:
        """See `LawMix`."""
        return Exponential(positive_floor=False)

    def mixtures(self, lab: Lab) -> np.ndarray:
        """See `LawMix`; two sources have only eleven such mixtures, so there may be fewer than ``proxies``."""
        rng = np.random.default_rng([self.design_seed, 65])
        return halvings(len(lab.sources), self.proxies, rng)

    def planned(self, lab: Lab) -> list[Run]:
        """See `LawMix`."""
        if self.extrapolate > 1 and self.checkpoints < 3:
            raise UsageError("data-mixing-laws extrapolates from three checkpoints at least; set checkpoints: 3")
        seeds = [self.design_seed + s for s in range(self.seeds)]
        return runs_of(
            "pilot", lab.sources, self.mixtures(lab), seeds, examples=self.proxy_examples, epochs=self.proxy_epochs,
            checkpoints=self.checkpoints,
        )  # fmt: skip

    def settled(self, runs: Sequence[Run], results: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """See `LawMix`: losses at the length that is aimed at."""
        return extrapolated(results, self.extrapolate) if self.extrapolate > 1 else results

    def propose(
        self,
        fits: Sequence[Fitted],
        weights: np.ndarray,
        prior: np.ndarray,
        caps: np.ndarray,
        rng: np.random.Generator,
        *,
        refit: bool = False,
    ) -> np.ndarray:
        """See `LawMix`."""
        return best_shares(fits, weights, prior, caps, tolerance=ROUGH if refit else EXACT).shares
