"""Scores of candidate answers: a judge's rating, the student's likelihood, or agreement among themselves.

A candidate that could not be scored has no score and the class of the failure; nothing is filled in.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backends.protocols import LLM, Request, ScoreRequest
from methods.asking.agreement import mean_of_present
from methods.asking.answers import vote_key
from methods.asking.parsing import Unparsed, score_of
from methods.asking.prompt_files import Prompt
from methods.asking.structured import Asking, Heard, ask_for, ask_for_model
from methods.generate._candidates import Question
from methods.generate._pool import Given, turns_before
from schemas.errors import BudgetExceeded

#: Ratings lie between these, both included.
LOWEST, HIGHEST = 0.0, 10.0


class Rating(BaseModel):
    """A judge's opinion of one answer."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(description="one sentence")
    score: float = Field(ge=LOWEST, le=HIGHEST, description="0 (useless) to 10 (could not be better)")


@dataclass(frozen=True)
class Scored:
    """A score (higher is better), or None with the class of the failure; ``detail`` is for the evidence."""

    score: float | None
    failure: str | None = None
    calls: tuple[bytes, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


def rated(
    questions: Sequence[Question],
    prompt: Prompt,
    judge: LLM,
    asking: Asking,
    votes: int,
    *,
    seed: int,
) -> list[list[Scored]]:
    """The mean of ``votes`` ratings of each candidate, 0 to 10; failed ratings are left out of the mean."""
    pairs = [(question.group.first, one.text) for question in questions for one in question.candidates]
    heard = ratings([pair for pair in pairs for _ in range(votes)], prompt, judge, asking, seed=seed)
    return _by_question(questions, [_mean(heard[i * votes : (i + 1) * votes]) for i in range(len(pairs))])


def unlike(questions: Sequence[Question], prompt: Prompt, judge: LLM, asking: Asking) -> list[list[Scored]]:
    """How different each candidate is from the others of its question, 0 to 10, as a judge rates it who sees them all."""
    texts = [
        prompt.render(
            question=question.group.first.conversation,
            answer=one.text,
            others=[other.text for j, other in enumerate(question.candidates) if j != i],
            as_text=None if asking.form == "text" else "",
        )
        for question in questions
        for i, one in enumerate(question.candidates)
    ]
    heard = _numbers([Request.ask(text, asking.draw.sampling()) for text in texts], judge, asking)
    return _by_question(questions, [_mean([one]) for one in heard])


def ratings(
    pairs: Sequence[tuple[Given, str]], prompt: Prompt, judge: LLM, asking: Asking, *, seed: int
) -> list[Heard[float]]:
    """One rating per (question, answer); equal pairs that follow each other are told apart by their sample index."""
    requests: list[Request] = []
    repeated = 0
    for i, (given, answer) in enumerate(pairs):
        repeated = repeated + 1 if i and pairs[i - 1] == pairs[i] else 0
        as_text = None if asking.form == "text" else ""
        text = prompt.render(question=given.conversation, answer=answer, as_text=as_text)
        requests.append(Request.ask(text, asking.draw.sampling(seed, index=repeated)))
    return _numbers(requests, judge, asking)


def likelihoods(questions: Sequence[Question], student: LLM, *, per_token: bool) -> list[list[Scored]]:
    """Log-likelihood of each candidate given its question under the student, in nats, the end of the turn included.

    The scoring's key stands in ``detail``: the lineage keeps calls that wrote something, not every forward pass.
    """
    requests = [
        ScoreRequest(one.text, turns_before(one.before)) for question in questions for one in question.candidates
    ]
    found = student.logprobs(requests) if requests else []
    scored: list[Scored] = []
    for one in found:
        key = {"scoring": one.call.hex()} if one.call else {}
        if one.failure == "over-budget":
            raise BudgetExceeded("the budget refused a scoring; raise it and run again, what was scored is kept")
        failure = one.failure or ("too-long" if one.truncated else None) or (None if one.n_tokens else "empty")
        if failure:
            scored.append(Scored(None, failure, detail={"tokens": one.n_tokens, **key}))
            continue
        mean = one.sum_logprob / one.n_tokens
        detail = {"logprob_per_token": round(mean, 6), "tokens": one.n_tokens, **key}
        scored.append(Scored(mean if per_token else one.sum_logprob, detail=detail))
    return _by_question(questions, scored)


def agreements(questions: Sequence[Question]) -> list[list[Scored]]:
    """The share of a question's candidates that end with the same final answer, 0 to 1; abstentions have no score."""
    found: list[list[Scored]] = []
    for question in questions:
        keys = [vote_key(one.text) for one in question.candidates]
        counts = Counter(key for key in keys if key is not None)
        cast = counts.total()
        found.append([
            Scored(None, "no-final-answer") if key is None
            else Scored(counts[key] / cast, detail={"answer": key[:80], "votes": f"{counts[key]} of {cast}"})
            for key in keys
        ])  # fmt: skip
    return found


def computed(questions: Sequence[Question], score: Callable[[Question, str], float]) -> list[list[Scored]]:
    """Scores by a function of the text, for rewards that can be computed."""
    return [[Scored(score(question, one.text)) for one in question.candidates] for question in questions]


def _by_question(questions: Sequence[Question], scored: Sequence[Scored]) -> list[list[Scored]]:
    """Scores of all candidates, one after the other, as a list per question."""
    each = iter(scored)
    return [[next(each) for _ in question.candidates] for question in questions]


def _numbers(requests: Sequence[Request], judge: LLM, asking: Asking) -> list[Heard[float]]:
    """What a judge answers to each, as JSON of a `Rating` or as a line of text."""
    if asking.form == "text":
        return ask_for(judge, requests, _read_score, tries=asking.tries)
    shaped = ask_for_model(judge, requests, Rating, tries=asking.tries)
    return [one.map(lambda said: said.score) for one in shaped]


def _mean(heard: Sequence[Heard[float]]) -> Scored:
    mean = mean_of_present([one.value for one in heard])
    calls = tuple(dict.fromkeys(call for one in heard for call in one.calls))
    failures = sorted(Counter(one.failure for one in heard if one.failure).items())
    detail: dict[str, Any] = {"ratings": [one.value for one in heard]}
    if failures:
        detail["unrated"] = dict(failures)
    return Scored(mean, None if mean is not None else failures[0][0], calls, detail)


def _read_score(text: str) -> float | Unparsed:
    return score_of(text, LOWEST, HIGHEST)
