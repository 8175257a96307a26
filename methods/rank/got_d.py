"""Which examples pull the pool towards the target? The gradient of an optimal transport."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.keyed import by_key, keyed_hashes
from methods.points.transport import calibrated_gradient, extended, sinkhorn, squared_distances
from methods.points.vectors import On, aimed, embedded, embedded_in_batches
from methods.streamed import Batches, EmbeddedRank
from schemas.method import Using


class GotD(EmbeddedRank):
    """Examples that bring the pool's distribution nearest to the target's when they get more mass come first.

    Not those most like the target: what the pool has plenty of already is worth little. Score: minus the calibrated
    gradient of the entropic transport cost between pool and target, in units of that cost; higher is better. The dual is
    solved on ``subsamples`` draws of ``subsample`` candidates and extended to every candidate by its c-transform, so that
    memory and time grow with the pool only linearly. Part: ``cost`` (squared distance to the nearest target example).

    Paper: Kang et al. 2024, Get more for less (GOT-D), https://arxiv.org/abs/2405.02774; the calibrated gradient as in
    Just et al. 2023, LAVA, https://arxiv.org/abs/2305.00054.
    """

    method: Literal["got-d"] = "got-d"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    on: On = Field("both", description="text that is embedded: prompt, answer or both")
    epsilon: float = Field(0.05, gt=0, description="entropic regularization, as a share of the mean cost")
    subsample: int = Field(3000, ge=2, description="candidates that the dual is solved on at a time")
    subsamples: int = Field(4, ge=1, le=50, description="draws whose potentials are averaged")
    max_targets: int = Field(5000, ge=1, description="target examples, drawn by id if there are more")
    contrast: bool = Field(False, description="the target shows what is not wanted: the farthest come first")

    def rank_rows(
        self,
        rows: pl.DataFrame,
        texts: Batches,
        *,
        target: pl.DataFrame | None,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """See `EmbeddedRank`; raises ``UsageError`` without a target. Draws follow from the seed and the ids."""
        seed = int(rng.integers(2**31))
        aim = aimed(target, self.method)
        if rows.is_empty():
            return rows.select("id", pl.lit(None, pl.Float64).alias("score"), pl.lit(None, pl.Float64).alias("cost"))
        aim = aim[np.sort(by_key(keyed_hashes(aim["id"], seed), aim["id"])[: self.max_targets])].sort("id")
        vectors = embedded_in_batches(texts, np.arange(rows.height), self.on, using, "candidates")
        goals = embedded(aim, self.on, using, "target")
        draws = [
            by_key(keyed_hashes(rows["id"], seed + 1 + k), rows["id"])[: self.subsample].copy()
            for k in range(self.subsamples)
        ]
        gradient, nearest = got_gradient(
            vectors, goals, draws if rows.height > self.subsample else draws[:1], self.epsilon
        )
        score = gradient if self.contrast else -gradient
        return pl.DataFrame({"id": rows["id"], "score": score, "cost": nearest})


def got_gradient(
    rows: np.ndarray, goals: np.ndarray, draws: list[np.ndarray], epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated gradient of each row (float64), averaged over the draws (positions), and its cost to the nearest goal.

    ``epsilon`` is a share of the mean cost of the first draw. All-equal rows get 0.
    """
    first = squared_distances(rows[draws[0]], goals)
    scale = float(first.mean())
    if scale <= 0:
        return np.zeros(len(rows)), np.zeros(len(rows))
    eps = epsilon * scale
    potentials = [
        sinkhorn(first if n == 0 else squared_distances(rows[d], goals), eps).target for n, d in enumerate(draws)
    ]
    found, nearest = extended(rows, goals, np.stack(potentials), eps)
    total = np.zeros(len(rows))
    for potential in found:
        total += calibrated_gradient(potential)
    return total / len(draws), nearest
