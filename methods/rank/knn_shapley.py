"""What is each example worth to its neighbours in the target? Shapley values in closed form."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.points.vectors import On, aimed, blocks_of_cosines, embedded, embedded_in_batches
from methods.streamed import Batches, EmbeddedRank
from methods.texts.words import normalized
from schemas.errors import UsageError
from schemas.examples import answer_text
from schemas.method import Using


class KnnShapley(EmbeddedRank):
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

    def rank_rows(
        self,
        rows: pl.DataFrame,
        texts: Batches,
        *,
        target: pl.DataFrame | None,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """See `EmbeddedRank`; draws no number. ``UsageError`` without a target, or where no answer can agree."""
        aim = aimed(target, self.method).sort("id")
        if rows.is_empty():
            return rows.select("id", pl.lit(None, pl.Float64).alias("score"))
        order = rows["id"].arg_sort().to_numpy()
        near = embedded_in_batches(texts, order, self.on, using, "candidates")
        goals = embedded(aim, self.on, using, "target")
        if self.agreement == "cosine":
            ours = embedded_in_batches(texts, order, "answer", using, "answers")
            theirs = embedded(aim, "answer", using, "answers")
        else:
            ours, theirs = _codes(texts, order, aim)
        total = np.zeros(len(near))
        for start, cosine in blocks_of_cosines(goals, near):
            some = theirs[start : start + len(cosine)]
            if self.agreement == "cosine":
                agreement = np.maximum(some @ ours.T, 0.0)
            else:
                agreement = (some[:, None] == ours[None, :]).astype(np.float32)
            total += shapley_values(-cosine, agreement, self.neighbors).sum(axis=0)
        score = np.empty(len(near))
        score[order] = total / len(goals)
        return pl.DataFrame({"id": rows["id"], "score": score})


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


def _codes(texts: Batches, order: np.ndarray, aim: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """A number per answer of the pool, in this order, and of the target: equal where all words are, -1 for no target's."""
    goals = [normalized(text) for text in _answers(aim)]
    codes = {text: code for code, text in enumerate(dict.fromkeys(goals))}
    ours = [codes.get(normalized(text), -1) for batch in texts() for text in _answers(batch)]
    found = np.array(ours, dtype=np.int32)[order]
    if not (found >= 0).any():
        raise UsageError(
            "rank knn-shapley: no answer of the pool is an answer of the target, word for word; use `agreement: cosine`"
        )
    return found, np.array([codes[text] for text in goals], dtype=np.int32)


def _answers(pool: pl.DataFrame) -> list[str]:
    return pool.select(a=answer_text().fill_null(""))["a"].to_list()
