"""Answers under a language model: one row of sums and counts per example, from which every loss-based score follows."""

from collections.abc import Sequence

import polars as pl

from backends.protocols import LLM, ScoreRequest, TokenLogprobs
from methods.asking.sampling import CHUNK, PASSING
from methods.conversation import as_turns
from schemas.errors import BackendError, BudgetExceeded, EngineDown
from schemas.method import Using


def answers_given_prompts(
    pool: pl.DataFrame, using: Using, note: str, *, llm: LLM | None = None, tail: float | None = None
) -> pl.DataFrame:
    """The last turn scored after all turns before it; columns as in `scored`, in the pool's order."""
    return scored([_given(messages) for messages in pool["messages"].to_list()], using, note, llm=llm, tail=tail)


def answers_alone(pool: pl.DataFrame, using: Using, note: str) -> pl.DataFrame:
    """The last turn scored after nothing; equal answers are scored once."""
    return scored([ScoreRequest(_content(messages[-1:])) for messages in pool["messages"].to_list()], using, note)


def scored(
    requests: Sequence[ScoreRequest],
    using: Using,
    note: str,
    *,
    llm: LLM | None = None,
    tail: float | None = None,
) -> pl.DataFrame:
    """One row per request: ``sum_logprob`` (nats), ``n_tokens``, ``truncated``, ``failed``; equal requests asked once.

    ``llm`` scores instead of the student; ``tail`` adds ``tail_logprob``, the mean over that share of least likely tokens.

    A request with nothing to score, and one the engine could not score, is ``failed`` with null sums. Raises
    ``BudgetExceeded`` when the budget refused one, and ``EngineDown`` when all of five or more failed: a ranking
    without a single score would be one by chance.
    """
    engine = llm or using.student
    distinct = list(dict.fromkeys(request for request in requests if request.completion))
    found: dict[ScoreRequest, TokenLogprobs] = {}
    for start in range(0, len(distinct), CHUNK):
        part = distinct[start : start + CHUNK]
        replies = engine.logprobs(part)
        if len(replies) != len(part):
            raise BackendError(f"the engine scored {len(replies)} of {len(part)} completions; report it as a bug")
        found.update(zip(part, replies, strict=True))
        using.progress(min(start + CHUNK, len(distinct)), len(distinct), note)
    classes = [reply.failure for reply in found.values()]
    if "over-budget" in classes:
        raise BudgetExceeded(f"the budget refused to score {note}; raise it and run again")
    if len(classes) >= 5 and None not in classes:
        named = ", ".join(sorted({str(one) for one in classes}))
        help = "bring the engine back" if PASSING.issuperset(classes) else "take a model that can read these texts"
        raise EngineDown(f"all {len(classes)} scorings of {note} failed ({named}); {help} and run again")
    nothing = TokenLogprobs(failure="empty")
    replies = [found.get(request, nothing) for request in requests]
    bad = [reply.failure is not None or not reply.n_tokens for reply in replies]
    frame = pl.DataFrame(
        {
            "sum_logprob": [None if b else r.sum_logprob for r, b in zip(replies, bad, strict=True)],
            "n_tokens": [None if b else r.n_tokens for r, b in zip(replies, bad, strict=True)],
            "truncated": [r.truncated for r in replies],
            "failed": bad,
        },
        {"sum_logprob": pl.Float64, "n_tokens": pl.Int64, "truncated": pl.Boolean, "failed": pl.Boolean},
    )
    if tail is None:
        return frame
    tails = [None if b else tail_mean(r.logprobs, tail) for r, b in zip(replies, bad, strict=True)]
    return frame.with_columns(pl.Series("tail_logprob", tails, dtype=pl.Float64))


def tail_mean(logprobs: Sequence[float], fraction: float) -> float:
    """Mean over the least likely ``fraction`` of the tokens, at least one.

    >>> tail_mean([-1.0, -5.0, -2.0, -3.0], 0.5)
    -4.0
    """
    least = sorted(logprobs)[: max(1, int(len(logprobs) * fraction))]
    return sum(least) / len(least)


def _given(messages: Sequence[dict[str, str]]) -> ScoreRequest:
    return ScoreRequest(_content(messages[-1:]), tuple(as_turns(messages[:-1])))


def _content(last: Sequence[dict[str, str]]) -> str:
    return (last[0].get("content") or "") if last else ""
