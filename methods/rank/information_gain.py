"""How much does one step on this example help the target? Measured on a few, foreseen for all."""

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.mixtures.laws_fit import ridge_fit
from methods.mixtures.runs import conversations, mean_loss
from methods.points.vectors import On, aimed, embedded
from methods.proxy_signals import by_chunk, digest, drawn, goals, over_pool, session_when_needed, taught
from schemas.errors import BackendError
from schemas.method import RankMethod, Using

_LABELS_AT_ONCE = 8  # measured between two durable results
_LEAST_LABELS = 3  # a spread of fewer says nothing


class InformationGain(RankMethod):
    """Examples after one optimizer step on which the target's loss falls most come first.

    For ``labels`` examples of the pool the proxy takes one AdamW step from its untuned weights; the gain is the loss of the
    target before minus after, in nats per token. A ridge regression on embeddings learns the z-scored gains and scores
    every example: standard deviations above the mean gain, unbounded. Null without an answer. Parts: ``gain`` (measured,
    else null) and ``explained``, the share of the gains' variance that the regression foresees for an example it has
    not seen, the same in every row; near or below 0 the scores are hardly better than chance.

    Paper: Antonello et al. 2021, Selecting informative contexts improves language model fine-tuning,
    https://arxiv.org/abs/2005.00175. Departs from it in the loss in place of perplexity, and a ridge regression in place of
    a small convolutional network.
    """

    method: Literal["information-gain"] = "information-gain"
    needs: ClassVar[frozenset[str]] = frozenset({"tune", "embed"})

    labels: int = Field(200, ge=8, description="examples, drawn by id, whose gain is measured: a step and a loss each")
    target_examples: int = Field(32, ge=1, description="target examples, drawn by id, that the gain is measured on")
    on: On = Field("both", description="text that the regression sees: prompt, answer or both")

    def reads(self) -> tuple[str, ...]:
        """The conversation, and the hash that it is remembered by."""
        return ("content_hash", "messages")

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; takes one number from ``rng``. ``UsageError`` without a target that has answers."""
        seed = int(rng.integers(2**31))
        aim = drawn(goals(aimed(target, self.method), self.method), self.target_examples, seed + 1)
        rows = taught(pool, f"rank {self.method}")
        sample = drawn(rows, self.labels, seed)
        gains = self._gains(sample, aim, using, seed)
        labelled = sample["id"].is_in(sample["id"].filter(pl.Series(np.isfinite(gains))).implode())
        known = gains[labelled.to_numpy()]
        vectors = embedded(rows, self.on, using, "embeddings")
        places = rows.with_row_index("row").join(sample.filter(labelled), on="id", how="semi")["row"].to_numpy()
        score, explained = foreseen(vectors, places, known)
        measured = over_pool(pool, sample, gain=gains)["gain"]
        found = over_pool(pool, rows, score=score, explained=np.full(rows.height, explained))
        return found.with_columns(measured)

    def _gains(self, sample: pl.DataFrame, aim: pl.DataFrame, using: Using, seed: int) -> np.ndarray:
        """Gain of each row, (rows,), NaN where the step led to no finite loss. Raises where hardly any did."""
        goal = conversations(aim)
        session = session_when_needed(using, seed % 10_000)

        @cache
        def before() -> float:
            session().reset()
            loss = mean_loss(session().losses(goal))
            if loss is None:
                raise BackendError("rank information-gain: the untuned proxy has no finite loss on the target")
            return loss

        def gain(lesson: Any) -> float | None:
            start = before()
            session().reset()
            session().learn([lesson], epochs=1.0, keep_order=True)
            after = mean_loss(session().losses(goal))
            return None if after is None else start - after

        measure: Callable[[pl.DataFrame], dict[str, Any]] = lambda part: {  # noqa: E731
            "gains": [gain(lesson) for lesson in conversations(part)]
        }
        what = {"what": "information gain", "target": digest(aim), "rng_seed": seed}
        found = by_chunk(sample, what, measure, using, "one step on an example", _LABELS_AT_ONCE)
        gains = np.array([np.nan if x is None else x for one in found for x in one["gains"]], dtype=np.float64)
        if np.isfinite(gains).sum() < min(_LEAST_LABELS, len(gains)):
            raise BackendError(
                f"rank information-gain: {int((~np.isfinite(gains)).sum())} of {len(gains)} steps ended without a finite "
                "loss; lower the tuner's learning_rate"
            )
        return gains


def foreseen(vectors: np.ndarray, places: np.ndarray, gains: np.ndarray) -> tuple[np.ndarray, float]:
    """Predicted z-scores of all rows, (n,), from the measured ones, and the share of variance explained when left out.

    All 0, explaining nothing, where the gains are fewer than three or all alike.
    """
    spread = float(gains.std()) if len(gains) else 0.0
    if len(gains) < _LEAST_LABELS or spread <= 1e-12:
        return np.zeros(len(vectors)), 0.0
    features = np.column_stack([np.ones(len(vectors)), vectors.astype(np.float64)])
    penalized = np.arange(features.shape[1]) > 0
    fit = ridge_fit(features[places], (gains - gains.mean()) / spread, penalized)
    return features @ fit.coefficients, 1.0 - fit.left_out_error
