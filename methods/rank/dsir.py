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
from methods.vectors import On, aimed, text_on
from schemas.method import RankMethod, Using

_TOKENS = re.compile(r"\w+|[^\w\s]+")
_TINY = 1e-8


class Dsir(RankMethod):
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

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; takes one number from ``rng``. Raises ``UsageError`` without a target."""
        seed = drawn_seed(rng)
        aim = aimed(target, self.method)
        hasher = Buckets(self.buckets)
        wanted = _distribution([hasher(t) for t in _texts(aim, self.on)], self.buckets, self.smoothing)
        counted = [hasher(text) for text in _texts(pool, self.on)]
        raw = _distribution(counted, self.buckets, 0.0)
        ratio = np.log(wanted + _TINY) - np.log(raw + _TINY)
        weight = np.array([_weight(one, ratio, self.per_token) for one in counted])
        words = np.array([sum(one.values()) // 2 + 1 if one else 0 for one in counted])
        uniform = np.clip(keyed_uniform(pool["id"], seed), 1e-300, 1 - 2**-53)
        score = weight - np.log(-np.log(uniform)) if self.resample else weight
        usable = (words >= self.min_words) & (words > 0)
        return pl.DataFrame({"id": pool["id"], "score": score, "log_weight": weight}).with_columns(
            pl.when(pl.Series(usable)).then("score").alias("score")
        )


class Buckets:
    """Texts to counts of hashed unigrams and bigrams; every n-gram is hashed once.

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
            self._known[gram] = found
        return found


def _texts(frame: pl.DataFrame, on: On) -> list[str]:
    return frame.select(text_on(on).alias("text"))["text"].to_list()


def _distribution(counted: list[Counter[int]], buckets: int, smoothing: float) -> np.ndarray:
    total = np.full(buckets, smoothing)
    for one in counted:
        for bucket, count in one.items():
            total[bucket] += count
    return total / max(total.sum(), 1.0)


def _weight(counts: Counter[int], ratio: np.ndarray, per_token: bool) -> float:
    if not counts:
        return 0.0
    where, times = np.fromiter(counts.keys(), np.int64), np.fromiter(counts.values(), np.float64)
    total = float(times @ ratio[where])
    return total / float(times.sum()) if per_token else total
