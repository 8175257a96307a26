"""A fake by name: replies and log-probabilities from rules in the recipe. It never stands in for a model unasked."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.base import BackendConfig
from backends.llm._accept import accepted, cut_at_stop
from backends.protocols import FailureClass, Meter, Reply, Request, ScoreRequest, TokenLogprobs


class When(BaseModel):
    """Which requests a rule is for: those that hold ``when``, or match ``pattern`` (Rust syntax); all if neither.

    Looked at is the prompt, or the turns joined by blank lines; for a score rule the completion follows after one more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: str | None = Field(None, description="text that the request holds")
    pattern: str | None = Field(None, description="regular expression that the request matches")

    @model_validator(mode="after")
    def _compiles(self) -> "When":
        if self.pattern is not None:
            try:
                pl.Series([""]).str.contains(self.pattern)
            except pl.exceptions.PolarsError as error:
                raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from error
        return self

    def matches(self, texts: pl.Series) -> list[bool]:
        """Whether the rule is for each text."""
        if self.pattern is not None:
            return texts.str.contains(self.pattern).to_list()
        return texts.str.contains(self.when, literal=True).to_list() if self.when else [True] * len(texts)


class ReplyRule(When):
    """What to answer. ``reply`` may name groups of ``pattern`` as ``$1``; with ``replies`` sample i gets reply i mod n."""

    reply: str = ""
    replies: tuple[str, ...] = ()
    failure: FailureClass | None = None
    finish_reason: Literal["stop", "length", "content_filter"] = "stop"

    def answer(self, text: str, index: int) -> str:
        """The reply to one text."""
        reply = self.replies[index % len(self.replies)] if self.replies else self.reply
        if self.pattern is None or "$" not in reply:
            return reply
        groups = pl.Series([text]).str.extract_groups(self.pattern).to_list()[0] or {}
        for name, value in reversed(list(groups.items())):
            reply = reply.replace(f"${name}", value or "")
        return reply


class ScoreRule(When):
    """Planted log-probabilities, one per token; the last is the end of turn."""

    logprobs: tuple[float, ...] = Field(min_length=1)


class Scripted(BackendConfig):
    """Answers by the first rule that matches, ``default`` otherwise. A token is a word. Instant, free, repeatable.

    For tests, demonstrations and dry runs of a recipe; ``provender`` names it wherever its output is shown.
    """

    backend: Literal["scripted"] = "scripted"
    rules: tuple[ReplyRule, ...] = Field((), description="the first rule that matches answers")
    default: str = Field(description="the reply where no rule matches")
    scores: tuple[ScoreRule, ...] = Field((), description="planted log-probabilities; the first rule that matches")
    default_logprob: float | Literal["hashed"] = Field(
        -1.0, description="of every token without a score rule; 'hashed' draws -4 to 0 from prompt and token"
    )

    @property
    def price(self) -> tuple[float, float]:
        """A script is free."""
        return 0.0, 0.0

    def open(self) -> "ScriptedEngine":
        """The engine; nothing is loaded."""
        return ScriptedEngine(self)


class ScriptedEngine:
    """Plays the script."""

    price = (0.0, 0.0)

    def __init__(self, config: Scripted) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        """The whole script."""
        return self.config.identity()

    def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
        """The script's replies, cut at stop texts and at ``max_tokens`` words."""
        texts = [_text_of(request) for request in requests]
        rules = _first_rule(self.config.rules, texts)
        replies: list[Reply] = []
        refused = False
        for i, (request, text, rule) in enumerate(zip(requests, texts, rules, strict=True)):
            refused = refused or (meter is not None and not meter.admit(i))
            reply = Reply(failure="over-budget", finish_reason="error") if refused else self._reply(request, text, rule)
            if meter is not None:
                meter.deliver(i, reply)
            replies.append(reply)
        return replies

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        """Planted, or one default per word and one for the end of turn."""
        texts = ["\n\n".join([*(turn.content for turn in r.messages), r.completion]) for r in requests]
        rules = _first_rule(self.config.scores, texts)
        return [
            TokenLogprobs(rule.logprobs if rule else self._default(text, request.completion))
            for request, text, rule in zip(requests, texts, rules, strict=True)
        ]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words."""
        return [len(text.split()) for text in texts]

    def _reply(self, request: Request, text: str, rule: ReplyRule | None) -> Reply:
        prompt_tokens = len(text.split())
        if rule is not None and rule.failure is not None:
            return Reply(
                failure=rule.failure,
                finish_reason="error",
                prompt_tokens=prompt_tokens,
                cost_usd=0.0,
                message="scripted",
            )
        answer = rule.answer(text, request.sampling.index) if rule else self.config.default
        finish = rule.finish_reason if rule else "stop"
        answer, stopped = cut_at_stop(answer, request.sampling.stop)
        words = answer.split()
        if not stopped and len(words) > request.sampling.max_tokens:
            answer, finish = " ".join(words[: request.sampling.max_tokens]), "length"
        reply = Reply(
            text=answer,
            finish_reason=finish,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(answer.split()),
            cost_usd=0.0,
        )
        return accepted(reply, request, accept_cut_off=True)

    def _default(self, text: str, completion: str) -> tuple[float, ...]:
        value = self.config.default_logprob
        tokens = [*completion.split(), "</turn>"]
        if value != "hashed":
            return (float(value),) * len(tokens)
        begun = hashlib.sha256(
            f"[{json.dumps(text)}, ".encode()
        )  # once: a text of a million words is no square of that
        return tuple(_hashed(begun.copy(), i, token) for i, token in enumerate(tokens))


def _first_rule(rules: Sequence[Any], texts: Sequence[str]) -> list[Any]:
    chosen: list[Any] = [None] * len(texts)
    column = pl.Series(texts, dtype=pl.String)
    for rule in reversed(rules):
        chosen = [rule if hit else old for hit, old in zip(rule.matches(column), chosen, strict=True)]
    return chosen


def _text_of(request: Request) -> str:
    return request.prompt if request.prompt is not None else "\n\n".join(turn.content for turn in request.messages)


def _hashed(begun: Any, position: int, token: str) -> float:
    """A number in (-4, 0], the same on every machine, different for each text (begun with), position and token."""
    begun.update(f"{position}, {json.dumps(token)}]".encode())
    return -4.0 * math.ldexp(int.from_bytes(begun.digest()[:4], "big"), -32)
