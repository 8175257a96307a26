"""Complex questions with good answers first, as a judge scores them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from backends.protocols import Request, ScoreRequest, TokenLogprobs, Turn
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw, failure_of, sample
from methods.streamed import MeasuredRank
from schemas.errors import BudgetExceeded
from schemas.method import TOKENS_PER_WORD, Expected, Using

_DIGITS = "123456"


class DeitaScore(Prompted, MeasuredRank):
    """Score: complexity of the question times quality of the answer, each 1 to 6 by a judge, summed over the turns.

    With ``by: digits`` each is the expected digit under the judge's probabilities of "1" to "6", where the engine can
    score; with ``reply`` the digit that it writes. Null where a score could not be had: there is no default. Parts:
    ``complexity`` and ``quality``, of the last turn. Cut by `select: deita`, which keeps what is not too much alike.

    Paper: Liu et al. 2024, What makes good data for alignment (DEITA), https://arxiv.org/abs/2312.15685. Departures: any
    judge instead of two tuned ones, with prompts of our own; a reply that cannot be read is null, not 3.0.
    """

    method: Literal["deita"] = "deita"
    needs: ClassVar[frozenset[str]] = frozenset({"judge"})
    speaks: ClassVar[tuple[str, ...]] = ("rate-complexity", "rate-quality")
    per_example: ClassVar[bool] = True

    by: Literal["digits", "reply"] = Field(
        "digits", description="expected digit by probabilities, or the digit written"
    )
    draw: Draw = Field(Draw(max_tokens=4), description="how replies are drawn, with `by: reply`")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Two questions a row of one turn, six scorings each where digits are scored."""
        calls = 2 * rows * (len(_DIGITS) if self.by == "digits" else 1)
        return Expected(calls, round(calls * (words * TOKENS_PER_WORD + 40)))

    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """See `MeasuredRank`."""
        pairs = [exchanges(messages) for messages in pool["messages"].to_list()]
        asked: list[str] = []
        for exchange in pairs:
            for question, answer in exchange:
                asked.append(self.prompt("rate-complexity").render(prompt=question))
                asked.append(self.prompt("rate-quality").render(prompt=question, answer=answer))
        rated = iter(self._digits(asked, using) if self.by == "digits" else self._replies(asked, using))
        rows: list[tuple[bytes, float | None, float | None, float | None]] = []
        for id_, exchange in zip(pool["id"], pairs, strict=True):
            scores = [(next(rated), next(rated)) for _ in exchange]
            known = [c * q for c, q in scores if c is not None and q is not None]
            whole = sum(known) if known and len(known) == len(scores) else None
            complexity, quality = scores[-1] if scores else (None, None)
            rows.append((id_, whole, complexity, quality))
        kinds = {"id": pl.Binary, "score": pl.Float64, "complexity": pl.Float64, "quality": pl.Float64}
        return pl.DataFrame(rows, kinds, orient="row")

    def _digits(self, asked: Sequence[str], using: Using) -> list[float | None]:
        requests = [ScoreRequest(digit, (Turn("user", text),)) for text in asked for digit in _DIGITS]
        scored = using.judge.logprobs(requests)
        if any(one.failure == "over-budget" for one in scored):
            raise BudgetExceeded("the budget refused to score digits; raise it and run again")
        return [expected_digit(scored[i : i + 6]) for i in range(0, len(scored), 6)]

    def _replies(self, asked: Sequence[str], using: Using) -> list[float | None]:
        requests = [Request(messages=(Turn("user", text),), sampling=self.draw.sampling()) for text in asked]
        replies = sample(using.judge, requests, progress=using.progress, note="scores")
        said = [reply.text.strip()[:1] if failure_of(reply, complete=False) is None else "" for reply in replies]
        return [float(one) if one and one in _DIGITS else None for one in said]


def expected_digit(scored: Sequence[TokenLogprobs]) -> float | None:
    """Mean of 1 to 6 under the softmax of the six digits' first tokens; None where any could not be scored.

    >>> digits = [TokenLogprobs((x,)) for x in (0.1, 0.5, 1, 2, 0.3, -1)]
    >>> round(expected_digit(digits), 6)
    3.503009
    """
    if any(one.failure or not one.logprobs for one in scored):
        return None
    top = max(one.logprobs[0] for one in scored)
    weights = [math.exp(one.logprobs[0] - top) for one in scored]
    return sum(k * w for k, w in enumerate(weights, start=1)) / sum(weights)


def exchanges(messages: Sequence[dict[str, str | None]]) -> list[tuple[str, str]]:
    """(question, answer) of each assistant turn that follows a user turn and says something."""
    found: list[tuple[str, str]] = []
    for before, turn in pairwise(messages):
        if turn["role"] == "assistant" and before["role"] == "user" and (turn["content"] or "").strip():
            found.append((before["content"] or "", turn["content"] or ""))
    return found
