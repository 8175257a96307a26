"""Does the model that is to be trained already know a text? Its least likely tokens are the sign."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import ScoreRequest
from methods.conversation import texts_before_last
from methods.texts.matching import entries
from methods.verdicts import keep_or_reject
from schemas.identity import canonical_json, digest16
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, DecontaminateMethod, Expected, Using

_RULE = "known-to-the-model"


class MinK(DecontaminateMethod):
    """Scores every prompt by how familiar it is to the student: the mean log-probability of its least likely 20 %.

    A text that a model has seen has few very unlikely tokens. A sample of each benchmark's items is scored too: evidence
    places each example among them, and the rule's text says how far items and examples are apart, as the probability that
    an item is the more familiar of the two (0.5: no difference; well above: the model may have seen the benchmark). It is
    an audit of a model, weak and sensitive to style; it compares no text with a benchmark, so by itself it does not open
    the gate. Without ``threshold`` it keeps everything.

    Score: mean of the lowest ``share`` of the tokens' log-probabilities, in nats, at most 0, higher is more familiar.

    Paper: Shi et al. 2024, Detecting pretraining data from large language models, https://arxiv.org/abs/2310.16789,
    section 3 (Min-K % Prob). Departure: at least one token counts where the share rounds to none.
    """

    method: Literal["min-k"] = "min-k"
    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    share: float = Field(0.2, gt=0, le=1, description="share of the tokens, the least likely ones")
    threshold: float | None = Field(None, le=0, description="drop what scores above this; none: only report")
    items: int = Field(100, ge=1, description="items of each benchmark that are scored")
    min_tokens: int = Field(8, ge=1, description="shorter texts are not scored")

    def rules(self) -> Sequence[Rule]:
        """``known-to-the-model``."""
        return (self._rule(""),)

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """The rule, with how far items and examples are apart."""
        below: list[float] = []
        for text in verdicts["evidence"].drop_nulls():
            found = json.loads(text).get("items_below")
            if found is not None:
                below.append(found)
        if not below:
            return self.rules()
        apart = 1 - sum(below) / len(below)
        return (self._rule(f"; an item is more familiar than an example with probability {apart:.2f}"),)

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One scoring per example, and one per item of the sample."""
        return Expected(rows, round(rows * words * TOKENS_PER_WORD))

    def judge(
        self, pool: pl.DataFrame, benchmarks: Mapping[str, pl.DataFrame], *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `DecontaminateMethod`; draws no number."""
        sample = pl.concat([_some(group, self.items) for _, group in entries(benchmarks).group_by("benchmark")])
        known = np.sort([s for s, _ in self._scores(sample["prompt"].to_list(), using) if s is not None])
        texts = pool.select(texts_before_last().alias("t"))["t"].to_list()
        reason: list[str | None] = []
        evidence: list[str] = []
        scores: list[float] = []
        for score, found in self._scores(texts, using):
            if score is not None and len(known):
                found["items_below"] = round(float(np.searchsorted(known, score)) / len(known), 4)
            late = score is not None and self.threshold is not None and score > self.threshold
            reason.append(_RULE if late else None)
            evidence.append(canonical_json(found))
            scores.append(math.nan if score is None else score)
        return keep_or_reject(pool["id"], reason, score=np.array(scores), evidence=evidence)

    def _scores(self, texts: Sequence[str], using: Using) -> list[tuple[float | None, dict[str, Any]]]:
        """Score and evidence of each text; no score where it could not be had, and evidence says why."""
        asked = [i for i, text in enumerate(texts) if text.strip()]
        replies = using.student.logprobs([ScoreRequest(texts[i]) for i in asked])
        found: list[tuple[float | None, dict[str, Any]]] = [(None, {"not_scored": "empty"}) for _ in texts]
        for i, reply in zip(asked, replies, strict=True):
            calls = {"calls": [reply.call.hex()]} if reply.call else {}
            if reply.failure or reply.n_tokens < self.min_tokens:
                found[i] = None, {"not_scored": reply.failure or "too short", **calls}
                continue
            cut = {"truncated": True} if reply.truncated else {}
            found[i] = min_k(reply.logprobs, self.share), {"tokens": reply.n_tokens, **cut, **calls}
        return found

    def _rule(self, known: str) -> Rule:
        return Rule(
            name=_RULE,
            says=f"the model finds the text's least likely {self.share:.0%} of tokens very likely{known}",
            threshold=self.threshold,
            direction="none" if self.threshold is None else "keep-below",
        )


def min_k(logprobs: Sequence[float], share: float) -> float:
    """Mean of the lowest ``share`` of the values, of at least one of them.

    >>> lp = (-.1, -5, -.2, -3, -.4, -.05, -2, -1, -.3, -.6)
    >>> [round(min_k(lp, k), 4) for k in (.05, .1, .2, .3)]
    [-5.0, -5.0, -4.0, -3.3333]
    """
    count = max(1, int(len(logprobs) * share))
    return float(np.mean(np.sort(np.asarray(logprobs, dtype=np.float64))[:count]))


def _some(items: pl.DataFrame, count: int) -> pl.DataFrame:
    """Up to ``count`` items, by a hash of their text, so that their order does not matter."""
    key = [digest16(f"min-k\x1f{item}\x1f{prompt}".encode()) for item, prompt in items.select("item", "prompt").rows()]
    return items.with_columns(pl.Series("key", key, dtype=pl.Binary)).sort("key").head(count).drop("key")
