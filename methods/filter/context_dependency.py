"""How much does the answer rest on the context that the user gave? A likelihood ratio with and without it."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import ScoreRequest, Turn
from methods.conversation import as_turns
from methods.verdicts import keep_or_reject
from schemas.errors import BudgetExceeded, EngineDown
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, FilterMethod, Using

_LOW, _FAILED = "context-not-used", "context-not-measured"


class ContextDependency(FilterMethod):
    """Drops examples with a context that their answer does not use: the score is nats per answer token gained by it.

    The context is what stands before the last question: a system turn, earlier turns, or, in a single user turn, the
    text after the first blank line. Score: (log p(answer | all) - log p(answer | question alone)) / tokens; above 0 the
    context helps. Examples without a context have no score and stay. Note that a small student may gain little from a
    context that a reader needs.

    Paper: the context-dependency score of data selection for context use; log-likelihood ratios as in Li et al. 2024,
    https://arxiv.org/abs/2308.12032
    """

    method: Literal["context-dependency"] = "context-dependency"
    needs: ClassVar[frozenset[str]] = frozenset({"student"})
    per_example: ClassVar[bool] = True

    min_gain: float = Field(0.0, description="nats per answer token that the context must be worth")

    def rules(self) -> Sequence[Rule]:
        """``context-not-used``, and one for examples that could not be scored."""
        return (
            Rule(
                name=_LOW,
                says="the answer is as likely without the context it came with",
                threshold=self.min_gain,
                direction="keep-above",
            ),
            Rule(name=_FAILED, says="the student could not score the answer"),
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Two scorings a row."""
        return Expected(2 * rows, int(2 * rows * words * TOKENS_PER_WORD))

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; draws no number."""
        split = [with_and_without(messages) for messages in pool["messages"].to_list()]
        asked = [request for pair in split if pair for request in pair]
        scores = using.student.logprobs(asked)
        if any(score.failure == "over-budget" for score in scores):
            raise BudgetExceeded("the budget refused to score answers with their context; raise it and run again")
        if len(scores) >= 5 and all(s.failure for s in scores):
            raise EngineDown(f"all {len(scores)} scorings failed; bring the engine back and run again")
        found = iter(scores)
        reasons: list[str | None] = []
        gains: list[float] = []
        evidence: list[str | None] = []
        for pair in split:
            if pair is None:
                reasons.append(None)
                gains.append(float("nan"))
                evidence.append(None)
                continue
            full, bare = next(found), next(found)
            if full.failure or bare.failure or not full.n_tokens or full.truncated or bare.truncated:
                reasons.append(_FAILED)
                gains.append(float("nan"))
                evidence.append(canonical_json({"truncated": full.truncated or bare.truncated}))
                continue
            gain = (full.sum_logprob - bare.sum_logprob) / full.n_tokens
            reasons.append(_LOW if gain < self.min_gain else None)
            gains.append(gain)
            evidence.append(
                canonical_json({"with": full.sum_logprob, "without": bare.sum_logprob, "tokens": full.n_tokens})
            )
        verdicts = keep_or_reject(pool["id"], reasons, score=np.array(gains), evidence=evidence)
        unknown = pl.col("reason") == _FAILED
        return verdicts.with_columns(pl.when(unknown).then(pl.lit("quarantine")).otherwise("fate").alias("fate"))


def with_and_without(messages: Sequence[dict[str, Any]]) -> tuple[ScoreRequest, ScoreRequest] | None:
    """The answer scored with its context and without; None where there is no context or nothing to score."""
    if len(messages) < 2 or not (messages[-1]["content"] or ""):
        return None
    before = as_turns(messages[:-1])
    answer = messages[-1]["content"]
    question = before[-1]
    if len(before) > 1:
        return ScoreRequest(answer, tuple(before)), ScoreRequest(answer, (question,))
    head, gap, rest = question.content.partition("\n\n")
    if not gap or not rest.strip() or not head.strip():
        return None
    return ScoreRequest(answer, (question,)), ScoreRequest(answer, (Turn(question.role, head),))
