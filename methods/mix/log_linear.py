"""Measure mixtures, fit a log-linear law, take its exact minimum without going far from the prior: the default."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from methods.mix._lawful import EXACT, ROUGH, LawMix
from methods.mixtures.laws import Exponential, Fitted, Law
from methods.mixtures.proposals import best_shares


class LogLinear(LawMix):
    """Log-linear law and KL-regularized convex proposer: least ``mean loss + kl * KL(weights || prior)`` under the caps.

    The law of each group, ``floor + exp(rates · weights)``, is convex, so the proposal is its exact minimum. Weights are
    0 to 1 and sum to 1. With many sources 64 mixtures are few: three per source is a sensible least.

    Paper: Chen et al. 2026, OLMix, https://arxiv.org/abs/2602.12237
    """

    method: Literal["log-linear"] = "log-linear"

    kl: float = Field(
        0.05, ge=0, description="nats of loss that one nat of distance from the prior must gain; 0 = free"
    )
    huber_delta: float = Field(0.02, gt=0, description="residuals beyond so many nats count linearly")

    def law(self) -> Law:
        """See `LawMix`."""
        return Exponential(delta=self.huber_delta)

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
        return best_shares(fits, weights, prior, caps, kl=self.kl, tolerance=ROUGH if refit else EXACT).shares
