"""Online mixture methods as one template: sessions in which the mixture moves while a proxy learns, averaged over seeds."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Tuning
from methods.mix._proxies import Finding, Job, ProxyMix, Watch
from methods.mixtures.findings import share_intervals
from methods.mixtures.rounding import largest_remainder
from methods.mixtures.runs import Lab, conversations, draw, group_losses
from methods.mixtures.simplex import within
from schemas.errors import BackendError
from schemas.method import Using

#: Fields that decide nothing of what happens in a session.
_AFTERWARDS = {"total_examples", "max_repeats", "check_seeds", "sessions", "design_seed", "importance"}


class OnlineMix(ProxyMix):
    """Base of: train one proxy in rounds, moving the mixture by what each round shows; the mean mixture is the result."""

    rounds: int = Field(6, ge=1, description="times the mixture moves; a session learns its examples in so many parts")
    sessions: int = Field(3, ge=1, description="sessions with other seeds; their mean mixture is taken")

    @abstractmethod
    def session(self, lab: Lab, rng_seed: int, using: Using, known: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """The mixtures of one session, in order, (k,) each; ``known`` has the results of `groundwork`."""

    def groundwork(self, lab: Lab) -> Sequence[Job]:
        """What is measured before the sessions and counts for all of them."""
        return ()

    def first_jobs(self, lab: Lab) -> Sequence[Job]:
        """See `ProxyMix`; sessions that need groundwork come after it, one after the other."""
        ground = self.groundwork(lab)
        return ground or [self._session_job(lab, seed, ()) for seed in self._seeds()]

    def find(self, lab: Lab, caps: np.ndarray, watch: Watch, rng: np.random.Generator) -> Finding:
        """See `ProxyMix`."""
        ground = self.groundwork(lab)
        watch.total += self.sessions if ground else 0
        known = [watch(job) for job in ground]
        found = [watch(self._session_job(lab, seed, known)) for seed in self._seeds()]
        paths = np.array([one["mixtures"] for one in found], dtype=np.float64)  # sessions, rounds, sources
        means = paths.mean(axis=1)
        notes = {
            "rounds": [dict(zip(lab.sources, row.tolist(), strict=True)) for row in paths.mean(axis=0)],
            "intervals": share_intervals(means, lab.sources),
            "refits": self.sessions,
            **self.told(lab, known),
        }
        return Finding(within(np.maximum(means.mean(axis=0), 1e-9), caps), notes)

    def told(self, lab: Lab, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the groundwork says, for the notes."""
        return {}

    def batch(self, lab: Lab, shares: np.ndarray, examples: int, rng_seed: int) -> pl.DataFrame:
        """So many examples in these shares."""
        counts = largest_remainder(shares.tolist(), examples)
        return draw(lab, dict(zip(lab.sources, counts, strict=True)), rng_seed)

    def per_round(self) -> int:
        """Examples of one round: all passes over ``proxy_examples``, in equal parts."""
        return max(1, round(self.proxy_examples * self.proxy_epochs / self.rounds))

    def _seeds(self) -> list[int]:
        return [self.design_seed + s for s in range(self.sessions)]

    def _session_job(self, lab: Lab, rng_seed: int, known: Sequence[Mapping[str, Any]]) -> Job:
        settings = {k: v for k, v in self.identity().items() if k not in _AFTERWARDS}
        what = {
            "what": "mixture session",
            "method": settings,
            "learned": {name: _digest(frame) for name, frame in lab.train.items()},
            "measured": {name: _digest(frame) for name, frame in lab.measured.items()},
            "importance": self.weights_of(lab).tolist(),
            "rng_seed": rng_seed,
        }

        def make(using: Using) -> Mapping[str, Any]:
            return using.once(
                what, lambda: {"mixtures": [row.tolist() for row in self.session(lab, rng_seed, using, known)]}
            )

        return Job(f"{self.name} session, seed {rng_seed}", make)


def learn(session: Tuning, examples: pl.DataFrame, weights: Sequence[float] | None = None) -> list[float]:
    """One pass; the loss of each step."""
    return session.learn(conversations(examples), weights=weights, epochs=1.0)


def measured(session: Tuning, lab: Lab) -> np.ndarray:
    """The losses of all groups, (m,). Raises ``BackendError`` where one is not a finite number."""
    losses = group_losses(session, lab)
    bad = [name for name, loss in losses.items() if loss is None]
    if bad:
        raise BackendError(
            f"the proxy's loss on {bad[0]} is no longer a finite number; lower the tuner's learning_rate"
        )
    return np.array([losses[name] for name in lab.groups], dtype=np.float64)


def untrained(lab: Lab) -> Job:
    """The groups' losses before any training, as a job."""
    what = {"what": "untrained", "measured": {name: _digest(frame) for name, frame in lab.measured.items()}}
    return Job(
        "the untrained proxy",
        lambda using: using.once(what, lambda: {"losses": group_losses(using.tune.start(0), lab)}),
    )


def _digest(frame: pl.DataFrame) -> str:
    return hashlib.sha256(b"".join(frame["content_hash"].to_list())).hexdigest()[:32]
