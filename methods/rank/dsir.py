"""Candidates drawn as if from the target's distribution of words and word pairs: importance resampling."""

import hashlib
import re
from collections import Counter
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.keyed import drawn_seed, keyed_uniform
from methods.points.vectors import On, aimed, text_on
from methods.streamed import Batches, StreamedRank
from schemas.method import Using

_TOKENS = re.compile(r"\w+|[^\w\s]+")
_TINY = 1e-8
_REMEMBERED = 1 << 20


class Dsir(StreamedRank):
    """Candidates whose words and word pairs are common in the target and rare in the pool come first, with chance.

    Score: the log importance weight of the candidate's hashed unigrams and bigrams (target over pool), plus, with
    ``resample``, Gumbel noise from ``hash(rng_seed, id)``, which makes the top n a draw without replacement from the
    weighted pool. Null for texts of fewer than ``min_words``. Part: ``log_weight``.

    Paper: Xie et al. 2023, Data selection for language models via importance resampling,
    https://arxiv.org/abs/2302.03169
    """

    method: Literal["dsir"] = "dsir"

    on: On = Field("both", description="text that is looked at: prompt, answer or both")
    buckets: int = Field(10_000, ge=2, description="into how many buckets n-grams are hashed")
    smoothing: float = Field(0.0, ge=0, description="added to every bucket's count of the target")
    resample: bool = Field(True, description="draw in proportion to the weights; without it, the heaviest first")
    per_token: bool = Field(False, description="mean instead of sum over n-grams, which does not grow with length")
    min_words: int = Field(1, ge=0, description="shorter texts are not ranked (the paper's web pages: 100)")

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)

    def rank_batches(
        self, batches: Batches, rows: int, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `StreamedRank`: two passes, one where the pool is a single batch; takes one number from ``rng``.

        Raises ``UsageError`` without a target.
        """
        seed = drawn_seed(rng)
        hasher = Buckets(self.buckets)
        wanted = np.full(self.buckets, self.smoothing)
        _count([hasher(text) for text in _texts(aimed(target, self.method), self.on)], wanted)
        raw, kept = np.zeros(self.buckets), list[Counter[int]]()
        for batch in batches():
            counted = [hasher(text) for text in _texts(batch, self.on)]
            _count(counted, raw)
            kept = counted if batch.height == rows else []
        ratio = np.log(_shares(wanted) + _TINY) - np.log(_shares(raw) + _TINY)
        found = [pl.DataFrame(schema={"id": pl.Binary, "score": pl.Float64, "log_weight": pl.Float64})]
        for batch in batches():
            counted = kept or [hasher(text) for text in _texts(batch, self.on)]
            found.append(self._scored(batch["id"], counted, ratio, seed))
        return pl.concat(found)

    def _scored(self, ids: pl.Series, counted: list[Counter[int]], ratio: np.ndarray, seed: int) -> pl.DataFrame:
        weight = np.array([_weight(one, ratio, self.per_token) for one in counted], dtype=np.float64)
        words = np.array([sum(one.values()) // 2 + 1 if one else 0 for one in counted], dtype=np.int64)
        uniform = np.clip(keyed_uniform(ids, seed), 1e-300, 1 - 2**-53)
        score = weight - np.log(-np.log(uniform)) if self.resample else weight
        usable = (words >= self.min_words) & (words > 0)
        return pl.DataFrame({"id": ids, "score": score, "log_weight": weight}).with_columns(
            pl.when(pl.Series(usable)).then("score").alias("score")
        )


class Buckets:
    """Texts to counts of hashed unigrams and bigrams; the buckets of a million n-grams are remembered.

    >>> Buckets(10_000).of("the"), Buckets(10_000).of("the cat")
    (8288, 143)
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> Counter[int]:
        """Counts by bucket, lower-case words and runs of punctuation."""
        words = _TOKENS.findall(text.lower())
        return Counter([self.of(w) for w in words] + [self.of(f"{a} {b}") for a, b in pairwise(words)])

    def of(self, gram: str) -> int:
        """The bucket of an n-gram."""
        found = self._known.get(gram)
        if found is None:
            found = int(hashlib.sha256(gram.encode("utf-8", "surrogatepass")).hexdigest(), 16) % self.count
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[gram] = found
        return found


def _texts(frame: pl.DataFrame, on: On) -> list[str]:
    return frame.select(text_on(on).alias("text"))["text"].to_list()


def _count(counted: list[Counter[int]], total: np.ndarray) -> None:
    for one in counted:
        for bucket, count in one.items():
            total[bucket] += count


def _shares(total: np.ndarray) -> np.ndarray:
    return total / max(total.sum(), 1.0)


def _weight(counts: Counter[int], ratio: np.ndarray, per_token: bool) -> float:
    if not counts:
        return 0.0
    where, times = np.fromiter(counts.keys(), np.int64), np.fromiter(counts.values(), np.float64)
    total = float(times @ ratio[where])
    return total / float(times.sum()) if per_token else total
