"""What is each example worth to its neighbours in the target? Shapley values in closed form."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.points.vectors import On, aimed, blocks_of_cosines, embedded
from methods.texts.words import normalized
from schemas.errors import UsageError
from schemas.examples import answer_text
from schemas.method import RankMethod, Using


class KnnShapley(RankMethod):
    """Examples whose answers agree with those of the target's near questions come first; contradictions come last.

    For each target example the candidates are sorted by the distance of their questions; the utility of a set is the mean
    agreement of its ``neighbors`` nearest with the target's answer. The score is each candidate's Shapley value, averaged
    over the target, exact in O(n log n). Agreement is the cosine of the answers, not below 0 (``cosine``), or whether they
    are the same words (``exact``, for classification tasks).

    Paper: Jia et al. 2019, Efficient task-specific data valuation for nearest neighbor algorithms,
    https://arxiv.org/abs/1908.08619; the recursion holds for any agreement, not only for 0 and 1.
    """

    method: Literal["knn-shapley"] = "knn-shapley"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    neighbors: int = Field(10, ge=1, description="how many nearest candidates answer a target question")
    agreement: Literal["cosine", "exact"] = Field("cosine", description="when two answers agree")
    on: On = Field("prompt", description="text by which candidates are near: prompt, answer or both")

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; draws no number. ``UsageError`` without a target, or where no answer can agree."""
        aim = aimed(target, self.method).sort("id")
        if pool.is_empty():
            return pool.select("id", pl.lit(None, pl.Float64).alias("score"))
        order = pool["id"].arg_sort().to_numpy()
        ordered = pool[order]
        rows, goals = embedded(ordered, self.on, using, "candidates"), embedded(aim, self.on, using, "target")
        if self.agreement == "cosine":
            ours, theirs = embedded(ordered, "answer", using, "answers"), embedded(aim, "answer", using, "answers")
            agree = None
        else:
            ours = theirs = np.zeros((0, 1), dtype=np.float32)
            agree = _same_answers(ordered, aim)
        total = np.zeros(len(rows))
        for start, near in blocks_of_cosines(goals, rows):
            part = slice(start, start + len(near))
            agreement = np.maximum(theirs[part] @ ours.T, 0.0) if agree is None else agree[part]
            total += shapley_values(-near, agreement, self.neighbors).sum(axis=0)
        score = np.empty(len(rows))
        score[order] = total / len(goals)
        return pl.DataFrame({"id": pool["id"], "score": score})


def shapley_values(distance: np.ndarray, agreement: np.ndarray, neighbors: int) -> np.ndarray:
    """Values of each candidate for each test point: both inputs and the result (tests, candidates); ties by position.

    >>> shapley_values(np.array([[0.1, 0.4, 0.9, 1.6, 2.5]]), np.array([[1, 0, 1, 1, 0]]), 2).round(4).tolist()
    [[0.25, -0.25, 0.25, 0.25, 0.0]]
    """
    tests, n = distance.shape
    order = np.argsort(distance, axis=1, kind="stable")
    value = np.take_along_axis(np.asarray(agreement, dtype=np.float64), order, axis=1)
    place = np.arange(1, n + 1)
    reach = np.minimum(neighbors, place) / (neighbors * place)
    # s_n = v_n reach_n; s_i = s_(i+1) + (v_i - v_(i+1)) reach_i: sums from the far end
    steps = np.empty((tests, n))
    steps[:, -1] = value[:, -1] * reach[-1]
    steps[:, :-1] = (value[:, :-1] - value[:, 1:]) * reach[:-1]
    sums = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    found = np.empty((tests, n))
    np.put_along_axis(found, order, sums, axis=1)
    return found


def _same_answers(pool: pl.DataFrame, aim: pl.DataFrame) -> np.ndarray:
    ours, theirs = (
        np.array(
            [normalized(text) for text in frame.select(a=answer_text().fill_null(""))["a"].to_list()], dtype=object
        )
        for frame in (pool, aim)
    )
    same = theirs[:, None] == ours[None, :]
    if not same.any():
        raise UsageError(
            "rank knn-shapley: no answer of the pool is an answer of the target, word for word; use `agreement: cosine`"
        )
    return same.astype(np.float32)
