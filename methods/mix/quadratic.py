"""Measure mixtures, fit a quadratic surface with interactions between sources, take its lowest point."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from methods.mix._lawful import EXACT, ROUGH, LawMix
from methods.mixtures.laws import Fitted, Law, Quadratic
from methods.mixtures.proposals import best_shares


class QuadraticMix(LawMix):
    """Quadratic surrogate: a loss per source and an interaction per pair of sources, ridged; for 10 to 60 runs.

    Needs k(k+1)/2 runs for k sources to be determined by them; with fewer, the ridge, whose strength is that which
    predicts left-out runs best, decides the rest. Weights are 0 to 1 and sum to 1. The surface need not be convex: the
    lowest point is sought from the prior, the uniform mixture and every single source.

    Paper: Liang et al. 2025, MoDoMoDo, https://arxiv.org/abs/2505.24871
    """

    method: Literal["quadratic"] = "quadratic"

    proxies: int = Field(32, ge=2, description="mixtures to measure")
    kl: float = Field(0.0, ge=0, description="nats of loss that one nat of distance from the prior must gain; 0 = free")

    def law(self) -> Law:
        """See `LawMix`."""
        return Quadratic()

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
        even = np.full(len(prior), 1 / len(prior))
        starts = [even] if refit else [even, *np.eye(len(prior))]
        tolerance = ROUGH if refit else EXACT
        return best_shares(fits, weights, prior, caps, kl=self.kl, starts=starts, tolerance=tolerance).shares
