"""Token probabilities as a signal of confidence: how likely the model finds the given answer, token by token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backends.protocols import LLM, ScoreRequest, TokenLogprobs, Turn
from methods.asking.sampling import calls_of

Likelihood = Literal["none", "probability", "gain"]


@dataclass(frozen=True)
class Scored:
    """The likelihood of one answer, 0-1, or the class of the failure; and the calls that it took."""

    value: float | None
    failure: str | None
    calls: list[bytes]


def likelihoods(answers: Sequence[tuple[tuple[Turn, ...], str]], kind: Likelihood, llm: LLM) -> list[Scored]:
    """Each (turns before, answer) scored under teacher forcing: once, and for ``gain`` once more without the turns."""
    given = llm.logprobs([ScoreRequest(answer, before) for before, answer in answers])
    if kind != "gain":
        return [_scored([one]) for one in given]
    alone = llm.logprobs([ScoreRequest(answer) for _, answer in answers])
    return [_scored([with_turns, without]) for with_turns, without in zip(given, alone, strict=True)]


def probability(scored: TokenLogprobs) -> float:
    """Geometric mean of the tokens' probabilities, 0-1: the inverse of the perplexity.

    >>> round(probability(TokenLogprobs((math.log(0.5), math.log(0.125)))), 12)
    0.25
    """
    return math.exp(min(0.0, scored.sum_logprob / scored.n_tokens))


def gain(given: TokenLogprobs, alone: TokenLogprobs) -> float:
    """How much the question raises the answer's probability: p / (p + q) of the two geometric means.

    Above 0.5 the question helps; what is merely rare or common wording cancels out.

    >>> round(gain(TokenLogprobs((math.log(0.3),)), TokenLogprobs((math.log(0.1),))), 12)
    0.75
    """
    difference = alone.sum_logprob / alone.n_tokens - given.sum_logprob / given.n_tokens
    return 1 / (1 + math.exp(min(700.0, difference)))


def _scored(parts: Sequence[TokenLogprobs]) -> Scored:
    calls = calls_of(parts)
    failure = next((p.failure or "cut-off" for p in parts if p.failure or p.truncated or not p.logprobs), None)
    if failure:
        return Scored(None, failure, calls)
    value = probability(parts[0]) if len(parts) == 1 else gain(parts[0], parts[1])
    return Scored(value if math.isfinite(value) else None, None if math.isfinite(value) else "undecodable", calls)
