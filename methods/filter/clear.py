"""CLEAR's auto-filter: keep the examples whose given answer the model itself stands behind."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from methods.filter._auto_filter import (
    NO_CONFIDENCES,
    AutoFilter,
    LetterReplies,
    Quantile,
    Value,
    fate,
    no_confidence,
    no_confidences_in,
    unusable,
)
from methods.filter._confidence import confidences
from schemas.examples import VERDICTS, conform
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import Expected, Using

__all__ = ["Clear", "LetterReplies", "Quantile", "Value"]


class Clear(AutoFilter):
    """Confidence in each given answer (BSDetector): agreement with the model's own samples, and its second thoughts.

    The confidence is in 0-1, higher is better; an example is kept when it is strictly above the threshold. Parts that
    could not be had (failed calls, replies without a letter) are left out and counted, never replaced by a value; an
    example about which nothing could be had is quarantined with the class of the failure. ``samples: 0`` asks for
    reflections only, ``reflections: 0`` for samples only, both 0 with ``likelihood`` for token probabilities only.

    Departs from the paper: agreement is what the recipe's ``nli`` says, which without a cross-encoder is the declared
    substitute (cosine of embeddings: it sees topic and wording but not contradiction); samples are drawn from the
    unaltered prompt unless ``reason_first`` asks for reasoning; ``reflection: letter-probability`` reads the letters'
    probabilities instead of a written reply, which small models rarely get right; ``likelihood`` adds a signal of its own.

    Paper: Chen & Mueller 2024, https://arxiv.org/abs/2403.12776 (auto-filter); BSDetector, Chen & Mueller 2024,
    https://aclanthology.org/2024.acl-long.283, sections 3.1-3.3.
    """

    method: Literal["clear"] = "clear"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"llm", "nli"})

    def rules(self) -> Sequence[Rule]:
        """``low-confidence`` and one rule per way in which there is no confidence."""
        return (self.low_confidence(self.fixed_limit()), *map(no_confidence, NO_CONFIDENCES))

    def expected_calls(self, rows: int, words: float) -> Expected:
        """See `AutoFilter.confidence_calls`."""
        return self.confidence_calls(rows, words)

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """VERDICTS; ``score`` is the confidence."""
        found = confidences(pool, self, using=using, seed=int(rng.integers(2**31)))
        limit = self.realised_threshold([one.confidence for one in found])
        rows = [
            {
                "id": one.id,
                **fate(one, self.passes(one.confidence, limit)),
                "evidence": canonical_json(one.evidence),
                "successor": None,
            }
            for one in found
        ]
        return conform(pl.DataFrame(rows, schema=dict(VERDICTS)), VERDICTS, "clear's verdicts")

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """The realised threshold, the share it keeps, how many tie with it, and the failures that occurred."""
        scores = verdicts["score"].to_list()
        limit = self.realised_threshold(scores)
        known = self.shares(scores, limit) + unusable(verdicts)
        return (self.low_confidence(limit, known), *no_confidences_in(verdicts))
