"""Which examples push the weights the way the target would? Influence by gradients, with Adam's own steps."""

from collections.abc import Mapping
from math import ceil
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Tuning
from methods.mixtures.runs import conversations
from methods.points.vectors import aimed
from methods.proxy_signals import by_chunk, digest, drawn, goals, over_pool, session_when_needed, taught
from schemas.method import RankMethod, Using


class Less(RankMethod):
    """Examples whose Adam step, at several points of a short training, goes where the target's loss falls come first.

    A proxy warms up on a random part of the pool. At each checkpoint the direction Adam would take along an example is
    compared with the gradients of the target, both projected at random and brought to length 1; checkpoints count by
    their mean learning rate. Score: -1 to 1, the mean cosine with the examples of the subtask that gains most. Null for
    an example without an answer. Part: ``mean_influence`` over the subtasks. The paper's proxy is a LoRA update:
    ``backends: {tune: {adapter: lora}}``; 4 gradients per example and as many for the target.

    Paper: Xia et al. 2024, LESS, https://arxiv.org/abs/2402.04333
    """

    method: Literal["less"] = "less"
    needs: ClassVar[frozenset[str]] = frozenset({"tune"})

    warmup_fraction: float = Field(
        0.05, gt=0, le=1, description="share of the pool, drawn by id, that the proxy learns"
    )
    checkpoints: int = Field(4, ge=1, le=32, description="epochs of the warm-up; gradients are taken after each")
    dim: int = Field(8192, ge=16, le=65_536, description="dimensions of the random projection")
    subtasks: Literal["source", "all"] = Field(
        "source", description="what the target is split into: its sources, of which the best served counts, or nothing"
    )
    target_examples: int = Field(64, ge=1, description="target examples per subtask, drawn by id if there are more")

    def reads(self) -> tuple[str, ...]:
        """The conversation, and the hash that it is remembered by."""
        return ("content_hash", "messages")

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; takes one number from ``rng``. ``UsageError`` without a target that has answers."""
        seed = int(rng.integers(2**31))
        aim = goals(aimed(target, self.method), self.method)
        names = aim["source"] if self.subtasks == "source" else pl.repeat("all", aim.height, eager=True)
        tasks = {
            str(name): drawn(aim.filter(names == name), self.target_examples, seed + 1)
            for name in names.unique().sort()
        }
        rows = taught(pool, f"rank {self.method}")
        warm = drawn(rows, ceil(self.warmup_fraction * rows.height), seed)
        path = _Path(using, warm, tasks, self.checkpoints, self.dim, seed)
        influence, weights = [], []
        for number in range(self.checkpoints):
            what = {
                "what": "less",
                "warm": digest(warm),
                "target": {name: digest(frame) for name, frame in tasks.items()},
                "checkpoint": [number, self.checkpoints],
                "dim": self.dim,
                "rng_seed": seed,
            }
            note = f"gradients at checkpoint {number + 1} of {self.checkpoints}"
            found = by_chunk(rows, what, lambda part, number=number: path.influence(number, part), using, note)
            influence.append(np.concatenate([np.array(one["influence"], dtype=np.float64) for one in found]))
            weights.append(float(found[0]["rate"]))
        score, mean = aggregated(np.array(influence), np.array(weights))
        return over_pool(pool, rows, score=score, mean_influence=mean)


def aggregated(influence: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and mean influence over the subtasks, (rows,) each, of (checkpoints, rows, subtasks) weighed by the rates.

    >>> influence = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 0.4], [0.5, 0.5]]])
    >>> [part.round(2).tolist() for part in aggregated(influence, np.array([3e-5, 1e-5]))]
    [[0.75, 0.5], [0.42, 0.5]]
    """
    weights = rates / rates.sum() if rates.sum() > 0 else np.full(len(rates), 1 / len(rates))
    total = np.einsum("c,crs->rs", weights, influence)
    return total.max(axis=1), total.mean(axis=1)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, float64; a row of zeros, or one that is not finite, stays or becomes zero: it has no direction."""
    values = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0).astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length > 0, length, 1.0)


class _Path:
    """The warm-up, epoch by epoch: as far as it is asked for, and never back."""

    def __init__(
        self, using: Using, warm: pl.DataFrame, tasks: Mapping[str, pl.DataFrame], checkpoints: int, dim: int, seed: int
    ) -> None:
        self._session = session_when_needed(using, seed % 10_000)
        self._warm, self._tasks = warm, tasks
        self._checkpoints, self._dim, self._seed = checkpoints, dim, seed
        self._reached, self._aims = -1, np.zeros((0, dim))

    def influence(self, number: int, part: pl.DataFrame) -> dict[str, Any]:
        """Mean cosine of each row's Adam direction with the gradients of each subtask, and the epoch's mean rate."""
        session = self._at(number)
        found = session.gradients(conversations(part), dim=self._dim, rng_seed=self._seed, adam=True)
        values = unit(found) @ self._aims.T
        return {"rate": session.mean_rate, "influence": [[round(float(x), 9) for x in row] for row in values]}

    def _at(self, number: int) -> Tuning:
        session = self._session()
        if self._reached < number:
            lessons = conversations(self._warm)
            for epoch in range(self._reached + 1, number + 1):
                session.learn(lessons, epochs=1.0, part=(epoch, self._checkpoints))
            self._reached = number
            self._aims = np.array([self._mean(session, frame) for frame in self._tasks.values()])
        return session

    def _mean(self, session: Tuning, frame: pl.DataFrame) -> np.ndarray:
        """Mean of the unit gradients: the product with it is the mean of the products."""
        found = session.gradients(conversations(frame), dim=self._dim, rng_seed=self._seed, adam=False)
        return unit(found).mean(axis=0)
