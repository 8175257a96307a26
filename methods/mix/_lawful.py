"""Offline mixture methods as one template: a design of runs, a law fitted on them, a proposer, intervals by refitting."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from methods.mix._proxies import Finding, Job, ProxyMix, Watch, job_of, losses_of
from methods.mixtures.designs import dirichlet
from methods.mixtures.findings import share_intervals
from methods.mixtures.laws import Fitted, Law, cross_validated, fit_all
from methods.mixtures.proposals import predicted
from methods.mixtures.runs import Lab, Run
from schemas.errors import UsageError

#: How many nats a proposal may be from the law's best mixture: the one that is taken, and those behind an interval.
EXACT, ROUGH = 1e-9, 1e-5


class LawMix(ProxyMix):
    """Base of: measure ``proxies`` mixtures, fit a law per measured group, take the mixture that the laws predict best."""

    proxies: int = Field(64, ge=2, description="mixtures to measure")
    seeds: int = Field(1, ge=1, description="runs of each mixture, with other seeds and examples")
    prior: Literal["natural", "uniform"] = Field(
        "natural", description="around which mixture to look: the sources' sizes, or all alike"
    )
    bootstraps: int = Field(100, ge=0, description="refits on resampled runs, for the weights' intervals; 0 = none")
    beyond_measured: bool = Field(
        False, description="whether a source may get a larger share than it had in any measured mixture"
    )

    @abstractmethod
    def law(self) -> Law:
        """The family that is fitted."""

    @abstractmethod
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
        """The mixture that the fits predict best; ``refit`` says that it is one of many, for an interval."""

    def mixtures(self, lab: Lab) -> np.ndarray:
        """The design, (n, k)."""
        return dirichlet(self.prior_of(lab), self.proxies, np.random.default_rng([self.design_seed, 64]))

    def prior_of(self, lab: Lab) -> np.ndarray:
        """The prior's shares, (k,)."""
        return lab.sizes / lab.sizes.sum() if self.prior == "natural" else np.full(len(lab.sources), 1 / len(lab.train))

    def planned(self, lab: Lab) -> list[Run]:
        """The queue of pilots: mixtures × seeds."""
        return self.runs("pilot", lab, self.mixtures(lab), [self.design_seed + s for s in range(self.seeds)])

    def first_jobs(self, lab: Lab) -> Sequence[Job]:
        """See `ProxyMix`."""
        return [job_of(run, lab) for run in self.planned(lab)]

    def settled(self, runs: Sequence[Run], results: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Results as the law is to see them."""
        return results

    def find(self, lab: Lab, caps: np.ndarray, watch: Watch, rng: np.random.Generator) -> Finding:
        """See `ProxyMix`."""
        runs = self.planned(lab)
        raw = [watch(job_of(run, lab)) for run in runs]
        results = self.settled(runs, raw)
        shares, losses, good = losses_of(runs, results, lab)
        weights, prior, law = self.weights_of(lab), self.prior_of(lab), self.law()
        caps = self._capped(caps, shares)
        mixture_of = np.array([i // self.seeds for i in good])
        fits = fit_all(law, shares, losses)
        trust = cross_validated(law, shares, losses, weights, groups=mixture_of)
        best = self.propose(fits, weights, prior, caps, rng)
        again = self._refits(law, shares, losses, mixture_of, fits, weights, prior, caps, rng)
        said: list[float | None] = [None] * len(runs)
        for place, value in zip(good, trust.predictions, strict=True):
            said[place] = float(value) if np.isfinite(value) else None
        even = np.full(len(best), 1 / len(best))
        told = predicted(fits, weights, np.stack([best, even, lab.sizes / lab.sizes.sum()]))
        measured = losses @ weights
        notes = {
            "law": {
                "runs": len(good),
                "failed_runs": len(runs) - len(good),
                "rank_agreement": _finite(trust.rank_agreement),
                "median_absolute_error": _finite(trust.median_absolute_error),
                "mean_absolute_error": _finite(trust.mean_absolute_error),
                "median_error_of_the_mean": _finite(trust.median_error_of_the_mean),
                "error_of_the_mean": _finite(trust.error_of_the_mean),
                "spread_of_the_losses": float(np.ptp(measured)),
            },
            "predicted": dict(zip(("proposed", "uniform", "proportional"), told.tolist(), strict=True)),
            "best_run": {"loss": float(measured.min()), "shares": _named(lab, shares[int(measured.argmin())])},
            "intervals": share_intervals(again, lab.sources),
            "refits": len(again),
        }
        return Finding(best, notes, runs, raw, said)

    def _capped(self, caps: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """No source beyond its largest measured share, unless that leaves no room under the caps on repetition.

        A source of which no run had much is where a law is least sure and most optimistic.
        """
        tight = np.minimum(caps, shares.max(axis=0))
        return caps if self.beyond_measured or tight.sum() < 1 else tight

    def _refits(
        self,
        law: Law,
        shares: np.ndarray,
        losses: np.ndarray,
        mixture_of: np.ndarray,
        fits: Sequence[Fitted],
        weights: np.ndarray,
        prior: np.ndarray,
        caps: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Proposals from laws fitted to mixtures drawn with replacement, (refits, k)."""
        mixtures = np.unique(mixture_of)
        found: list[np.ndarray] = []
        for _ in range(self.bootstraps):
            drawn = rng.choice(mixtures, len(mixtures))
            rows = np.concatenate([np.flatnonzero(mixture_of == number) for number in drawn])
            try:
                refit = fit_all(law, shares[rows], losses[rows], fits)
            except UsageError:
                continue  # too few different mixtures were drawn; `refits` in the notes counts the ones that held
            found.append(self.propose(refit, weights, prior, caps, rng, refit=True))
        return np.array(found)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _named(lab: Lab, shares: np.ndarray) -> dict[str, float]:
    return dict(zip(lab.sources, shares.tolist(), strict=True))
