"""Vary the amount of one source at a time at two sizes, find the best amounts at each, extrapolate the amounts."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from methods.mix._proxies import Finding, Job, ProxyMix, Watch, job_of, losses_of
from methods.mixtures.amounts import best_amounts, extrapolated_amounts, source_curves
from methods.mixtures.designs import one_at_a_time
from methods.mixtures.findings import share_intervals
from methods.mixtures.rounding import largest_remainder
from methods.mixtures.runs import Lab, Run
from methods.mixtures.simplex import within


class AutoScale(ProxyMix):
    """Direct data optimization at two sizes, then amounts extrapolated to the size of the mixture.

    At ``proxy_examples`` and at ``scale`` times as many, each source is trained with ``factor`` times fewer and more
    examples than its equal share; a curve of the loss in that source's amount follows, and the amounts of least loss for
    the same total. The amounts then grow as ``N3 = N2 * N2 / N1`` until the size of the mixture is reached. 2(2k + 1)
    runs for each of ``seeds``. Weights are 0 to 1 and sum to 1. Departs from the paper in that a curve has three points,
    so that what other sources teach is part of its floor, and becomes a logarithm where they do not fall by less and
    less; a source whose amount does not help gets the least share that was measured.

    Paper: Kang et al. 2025, AutoScale, https://arxiv.org/abs/2407.20177
    """

    method: Literal["autoscale"] = "autoscale"
    version: ClassVar[int] = 2

    proxy_examples: int = Field(200, ge=8, description="examples of the smaller size")
    scale: float = Field(2.0, gt=1, description="the larger size over the smaller one")
    factor: float = Field(3.0, gt=1, description="a source's amount is divided and multiplied by this, in turn")
    seeds: int = Field(2, ge=1, description="runs of each, with other seeds and examples")
    bootstraps: int = Field(
        100,
        ge=0,
        description="refits on runs drawn anew among each mixture's seeds, for the weights' intervals; 0 = none",
    )

    def planned(self, lab: Lab, size: int) -> list[Run]:
        """Equal amounts, then one source less and more, in turn, for each seed."""
        even = largest_remainder([1.0] * len(lab.sources), size)
        amounts = one_at_a_time(even, self.factor)
        return [
            Run(
                f"size {size}, {_what(row, lab)}",
                dict(zip(lab.sources, counts, strict=True)),
                self.design_seed + seed,
                self.proxy_epochs,
            )
            for row, counts in enumerate(amounts)
            for seed in range(self.seeds)
        ]

    def first_jobs(self, lab: Lab) -> Sequence[Job]:
        """See `ProxyMix`."""
        return [job_of(run, lab) for size in self._sizes() for run in self.planned(lab, size)]

    def find(self, lab: Lab, caps: np.ndarray, watch: Watch, rng: np.random.Generator) -> Finding:
        """See `ProxyMix`."""
        runs: list[Run] = []
        results: list[Mapping[str, Any]] = []
        amounts: list[np.ndarray] = []
        measured: list[np.ndarray] = []  # of each size: losses by mixture and seed, NaN where a run failed
        for size in self._sizes():
            here = self.planned(lab, size)
            found = [watch(job_of(run, lab)) for run in here]
            _, losses, good = losses_of(here, found, lab)
            mean = np.full(len(here), np.nan)
            mean[good] = losses @ self.weights_of(lab)
            by_row = mean.reshape(-1, self.seeds)
            amounts.append(self._best(lab, size, np.nanmean(by_row, axis=1)))
            measured.append(by_row)
            runs += here
            results += found
        total = float(self.total_examples or lab.sizes.sum())
        shares = extrapolated_amounts(amounts[0], amounts[1], total)
        again = self._refits(lab, measured, total, rng)
        notes = {
            "amounts": [
                {"examples": size, "best": dict(zip(lab.sources, found.tolist(), strict=True))}
                for size, found in zip(self._sizes(), amounts, strict=True)
            ],
            "intervals": share_intervals(again, lab.sources),
            "refits": len(again),
        }
        return Finding(within(np.maximum(shares, 1e-9), caps), notes, runs, results)

    def _refits(self, lab: Lab, measured: Sequence[np.ndarray], total: float, rng: np.random.Generator) -> np.ndarray:
        """Shares found again, each mixture's runs drawn with replacement, (refits, k); none where there is one seed."""
        found: list[np.ndarray] = []
        for _ in range(self.bootstraps if self.seeds > 1 else 0):
            amounts: list[np.ndarray] = []
            for size, by_row in zip(self._sizes(), measured, strict=True):
                drawn = np.take_along_axis(by_row, rng.integers(self.seeds, size=by_row.shape), axis=1)
                if np.isnan(drawn).all(axis=1).any():
                    break  # of a mixture only failed runs were drawn; `refits` in the notes counts the others
                amounts.append(self._best(lab, size, np.nanmean(drawn, axis=1)))
            if len(amounts) == len(measured):
                found.append(extrapolated_amounts(amounts[0], amounts[1], total))
        return np.array(found).reshape(-1, len(lab.sources))

    def _best(self, lab: Lab, size: int, losses: np.ndarray) -> np.ndarray:
        even = np.array(largest_remainder([1.0] * len(lab.sources), size), dtype=np.float64)
        curves = source_curves(even, losses, self.factor)
        return best_amounts(curves, float(size), floor=1 / (self.factor * len(even)))

    def _sizes(self) -> tuple[int, int]:
        return self.proxy_examples, round(self.proxy_examples * self.scale)


def _what(row: int, lab: Lab) -> str:
    if row == 0:
        return "all alike"
    source = lab.sources[(row - 1) // 2]
    return f"{'less' if row % 2 else 'more'} of {source}"
