"""Measure mixtures, regress the loss on the weights, simulate many mixtures and average the best."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from methods.mix._lawful import LawMix
from methods.mixtures.laws import Fitted, Law, Linear
from methods.mixtures.laws_trees import Trees
from methods.mixtures.proposals import simulated_best


class RegMix(LawMix):
    """Regression by boosted trees (LightGBM) or linear, then the mean of the best 128 in 100,000 simulated mixtures.

    Weights are 0 to 1 and sum to 1. Departs from the paper in that trees are grown without early stopping on test runs,
    and that a law is fitted per measured group and the predictions averaged.

    Paper: Liu et al. 2025, RegMix, https://arxiv.org/abs/2407.01492
    """

    method: Literal["regmix"] = "regmix"

    regression: Literal["lightgbm", "linear"] = Field(
        "lightgbm", description="lightgbm needs the extra `mixture`; linear ranks mixtures far worse"
    )
    simulated: int = Field(100_000, ge=1000, description="mixtures simulated by the proposer")
    bootstraps: int = Field(10, ge=0, description="refits on resampled runs, for the weights' intervals; 0 = none")

    def law(self) -> Law:
        """See `LawMix`."""
        return Trees() if self.regression == "lightgbm" else Linear()

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
        """See `LawMix`; an interval's proposals come from a tenth of the simulated mixtures."""
        count = max(1000, self.simulated // 10) if refit else self.simulated
        return simulated_best(fits, weights, prior, caps, rng, count=count)
