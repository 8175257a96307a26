"""Candidates drawn so that their distribution is the target's, and copies share what one of them would get."""

import heapq
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.keyed import drawn_seed, keyed_uniform
from methods.points.vectors import On, aimed, blocks_of_cosines, embedded, embedded_in_batches
from methods.streamed import Batches, EmbeddedRank
from schemas.method import Using


class Tsds(EmbeddedRank):
    """Mass of each target example spread over its nearest candidates: near, but not on few, and not on copies.

    Score: the log of a candidate's probability, plus, with ``draw``, Gumbel noise from ``hash(rng_seed, id)``, so that the
    top n is a draw without replacement; null for candidates without any mass. ``alpha`` and ``scale`` trade distance
    against spread; ``bandwidth`` is how near two candidates count as copies (0: never). Part: ``probability``.

    Paper: Liu, Karbasi & Rekatsinas 2024, TSDS, https://arxiv.org/abs/2410.11303. Departure: the code draws with
    replacement, so that the same example may come many times; here none does.
    """

    method: Literal["tsds"] = "tsds"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    on: On = Field("both", description="text that is embedded: prompt, answer or both")
    alpha: float = Field(0.5, gt=0, lt=1, description="weight of the distances against the spread")
    scale: float = Field(5.0, gt=0, description="C of the paper: larger spreads wider")
    bandwidth: float = Field(
        0.75, ge=0, description="sigma of the density by which copies share their mass; 0 for none"
    )
    neighbors: int = Field(5000, ge=2, description="nearest candidates of each target example that may get mass")
    density_neighbors: int = Field(1000, ge=1, description="nearest candidates that the density looks at")
    draw: bool = Field(True, description="draw in proportion to the probabilities; without it, the likeliest first")

    def rank_rows(
        self,
        rows: pl.DataFrame,
        texts: Batches,
        *,
        target: pl.DataFrame | None,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """See `EmbeddedRank`; takes one number from ``rng``. Raises ``UsageError`` without a target."""
        seed = drawn_seed(rng)
        aim = aimed(target, self.method).sort("id")
        if rows.is_empty():
            return rows.select(
                "id", pl.lit(None, pl.Float64).alias("score"), pl.lit(None, pl.Float64).alias("probability")
            )
        order = rows["id"].arg_sort().to_numpy()
        vectors = embedded_in_batches(texts, order, self.on, using, "candidates")
        goals = embedded(aim, self.on, using, "target")
        distance, nearest = _nearest(goals, vectors, min(self.neighbors, max(2, len(vectors) // 10), len(vectors)))
        dense = density(vectors, self.bandwidth, min(self.density_neighbors, len(vectors)))
        chance = np.zeros(len(rows))
        chance[:] = probabilities(distance, nearest, dense, self.alpha / self.scale, 1 - self.alpha)
        found = np.empty(len(rows))
        found[order] = chance
        with np.errstate(divide="ignore"):
            score = np.log(found)
        if self.draw:
            uniform = np.clip(keyed_uniform(rows["id"], seed), 1e-300, 1 - 2**-53)
            score = score - np.log(-np.log(uniform))
        frame = pl.DataFrame({"id": rows["id"], "score": score, "probability": found})
        return frame.with_columns(pl.when(pl.col("probability") > 0).then("score").alias("score"))


def probabilities(
    distance: np.ndarray, nearest: np.ndarray, density: np.ndarray, pull: float, spread: float
) -> np.ndarray:
    """Probability of each candidate, float64, summing to 1.

    ``distance`` (ascending) and ``nearest`` (positions) are (queries, k); ``density`` is at least 1 per candidate. Every
    query holds ``1 / (queries * s * density)`` on its neighbours from the nearest on; s grows until the distances cost
    ``pull`` as much as ``spread`` allows, or the neighbours are used up.

    >>> near = np.array([[0, 1, 2, 3], [3, 4, 5, 2]])
    >>> far = np.array([[0.0, 1, 2, 9], [1.0, 1, 2, 8]])
    >>> probabilities(far, near, np.ones(7), 0.5, 0.5).tolist()
    [0.25, 0.25, 0.0, 0.25, 0.25, 0.0, 0.0]
    """
    queries, k = nearest.shape
    share = 1.0 / density[nearest]
    held = np.zeros(queries, dtype=np.int64)
    reached = share[:, 0].copy()
    weighed = distance[:, 0] * share[:, 0]
    heap = [(float(reached[j]), j) for j in range(queries)]
    heapq.heapify(heap)
    cost, total, s = np.zeros(queries), 0.0, 1.0
    while heap:
        s, j = heapq.heappop(heap)
        at = int(held[j]) + 1
        if at >= k:
            break
        new = float(distance[j, at] * s - weighed[j])
        total += new - cost[j]
        cost[j] = new
        if pull * total >= spread * queries:
            break
        held[j] = at
        reached[j] += share[j, at]
        weighed[j] += distance[j, at] * share[j, at]
        heapq.heappush(heap, (float(reached[j]), j))
    before = np.cumsum(share, axis=1) - share
    mass = np.clip(s - before, 0.0, share) / s
    mass[:, -1] += 1.0 - mass.sum(axis=1)  # what the neighbours cannot hold stays on the last one
    found = np.zeros(len(density))
    np.add.at(found, nearest.ravel(), np.maximum(mass, 0.0).ravel())
    return found / found.sum()


def density(rows: np.ndarray, bandwidth: float, neighbors: int) -> np.ndarray:
    """``sum max(0, 1 - d^2 / bandwidth^2)`` over each row's nearest rows, itself included: at least 1, float64."""
    if bandwidth <= 0:
        return np.ones(len(rows))
    found = np.empty(len(rows))
    for start, near in blocks_of_cosines(rows, rows):
        kernel = np.maximum(0.0, 1.0 - np.maximum(0.0, 2.0 - 2.0 * near) / bandwidth**2)
        if neighbors < kernel.shape[1]:
            kernel = -np.partition(-kernel, neighbors - 1, axis=1)[:, :neighbors]
        found[start : start + len(near)] = kernel.sum(axis=1)
    return np.maximum(found, 1.0)


def _nearest(goals: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (ascending) and positions of the k nearest rows of each goal; equal ones by position."""
    distance, nearest = np.empty((len(goals), k)), np.empty((len(goals), k), dtype=np.int64)
    for start, near in blocks_of_cosines(goals, rows):
        order = np.argsort(-near, axis=1, kind="stable")[:, :k]
        part = slice(start, start + len(near))
        nearest[part] = order
        distance[part] = np.sqrt(
            np.maximum(0.0, 2.0 - 2.0 * np.take_along_axis(near, order, axis=1).astype(np.float64))
        )
    return distance, nearest
