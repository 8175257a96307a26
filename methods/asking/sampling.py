"""Asking a model many things at once: how replies are drawn, and what became of each call."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from backends.protocols import LLM, Reply, Request, Sampling, TokenLogprobs
from methods.asking.parsing import checked_schema
from schemas.errors import BackendError, BudgetExceeded, EngineDown
from schemas.method import Progress, silent

#: Scorings handed to the engine in one list: many, so that it can sort and batch; not all, so that progress shows.
CHUNK = 1024
#: Requests in one list. Between two lists a server runs empty, so they are long; progress within is the call cache's.
LIST = 16_384

#: Failures that another attempt on another day may heal: a whole list of them means that the engine is gone.
PASSING = frozenset({"rate-limited", "server-error", "timeout", "connection"})
_ENOUGH_TO_BLAME_THE_ENGINE = 5


class Draw(BaseModel):
    """How a method draws replies; all of it is part of the method's identity.

    >>> Draw(temperature=0.7, stop=("end",)).sampling(seed=3).temperature
    0.7
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(default=256, ge=1, description="longest reply, in tokens of the model")
    temperature: float = Field(default=0.0, ge=0, description="0 is greedy")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="nucleus: the smallest set of tokens with this probability mass"
    )
    top_k: int = Field(default=0, ge=0, description="the k likeliest tokens only; 0 is no limit")
    presence_penalty: float = Field(default=0.0, description="subtracted from the logit of every token already written")
    stop: tuple[str, ...] = Field(default=(), description="the reply ends before the first of these")
    json_schema: str | None = Field(
        default=None,
        description="JSON schema the reply must satisfy, as a mapping or as text: constrained decoding where the engine "
        "has it, checked and asked for again everywhere",
    )

    @field_validator("json_schema", mode="before")
    @classmethod
    def _is_a_schema(cls, value: Any) -> str | None:
        return None if value is None else checked_schema(value)

    @model_serializer(mode="wrap")
    def _without_an_absent_schema(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A draw without a schema says the same as before there were schemas, so its step keeps its identity."""
        return {name: value for name, value in plain(self).items() if name != "json_schema" or value is not None}

    def sampling(self, seed: int = 0, index: int = 0) -> Sampling:
        """The engine's form. Greedy replies take no seed, so that they are one cached call whatever the rng_seed."""
        greedy = self.temperature == 0
        return Sampling(**self.model_dump(), seed=0 if greedy else seed, index=index)


def sample(
    llm: LLM, requests: Sequence[Request], *, progress: Progress = silent, note: str = "", chunk: int = LIST
) -> list[Reply]:
    """One reply per request, in order. A failed call is a reply with a class and costs only itself.

    Raises ``BudgetExceeded`` when the budget refused a call, so that a step which would go on without it cannot
    commit, and ``EngineDown`` when every one of at least five calls failed in a way that passes.
    """
    replies: list[Reply] = []
    for start in range(0, len(requests), chunk):
        part = requests[start : start + chunk]
        answered = llm.generate(part)
        if len(answered) != len(part):
            raise BackendError(f"the engine gave {len(answered)} replies to {len(part)} requests; report it as a bug")
        replies += answered
        refuse_if_over_budget(answered)
        progress(len(replies), len(requests), note)
    refuse_if_engine_is_gone(replies)
    return replies


def sample_each(
    llm: LLM,
    requests: Sequence[Request],
    n: int,
    *,
    progress: Progress = silent,
    note: str = "",
) -> list[list[Reply]]:
    """``n`` replies per request, told apart by ``Sampling.index`` 0 … n-1; shape (len(requests), n)."""
    repeated = [
        replace(request, sampling=replace(request.sampling, index=index)) for request in requests for index in range(n)
    ]
    replies = sample(llm, repeated, progress=progress, note=note)
    return [replies[i * n : (i + 1) * n] for i in range(len(requests))]


def refuse_if_over_budget(replies: Iterable[Reply]) -> None:
    """``BudgetExceeded`` if the budget refused any of the calls."""
    for reply in replies:
        if reply.failure == "over-budget":
            raise BudgetExceeded(
                f"the budget refused a call ({reply.message or 'no message'}); raise it and run again, "
                "what was answered is kept"
            )


def refuse_if_engine_is_gone(replies: Sequence[Reply]) -> None:
    """``EngineDown`` if at least five calls were made and every one failed in a way that passes."""
    classes = [reply.failure for reply in replies]
    if len(classes) >= _ENOUGH_TO_BLAME_THE_ENGINE and all(failure in PASSING for failure in classes):
        counts = ", ".join(f"{name} {count}" for name, count in sorted(Counter(map(str, classes)).items()))
        raise EngineDown(
            f"all {len(replies)} calls failed ({counts}; last: {replies[-1].message or 'no message'}); "
            "bring the engine back and run again, what was answered is kept"
        )


def failure_of(reply: Reply, *, complete: bool) -> str | None:
    """Why a reply cannot be used, or None. Only with ``complete`` is a reply cut by the token limit a failure.

    >>> failure_of(Reply(text=" "), complete=False), failure_of(Reply(text="Hi", finish_reason="length"), complete=True)
    ('empty', 'cut-off')
    >>> failure_of(Reply(text="Hi", finish_reason="length", failure="cut-off"), complete=False) is None
    True
    """
    if reply.failure is not None and reply.failure != "cut-off":
        return reply.failure
    if not reply.text.strip():
        return "empty"
    if complete and is_cut_off(reply):
        return "cut-off"
    if reply.finish_reason == "content_filter":
        return "refused-by-server"
    return None


def is_cut_off(reply: Reply) -> bool:
    """Whether the token limit ended the reply; an engine may call that a failure or leave it to the method."""
    return reply.finish_reason == "length" or reply.failure == "cut-off"


def calls_of(replies: Iterable[Reply | TokenLogprobs]) -> list[bytes]:
    """Keys of the calls, each once, in order; those without a key (an engine used without the cache) are left out."""
    return list(dict.fromkeys(reply.call for reply in replies if reply.call))


def failures(replies: Iterable[Reply], *, complete: bool) -> Mapping[str, int]:
    """How many replies failed, by class."""
    found = (failure_of(reply, complete=complete) for reply in replies)
    return dict(sorted(Counter(name for name in found if name).items()))
