"""Asking for a value instead of a text: constrained where the engine can, read strictly, asked again a few times.

What could not be read in the end is a class (``unparsed``, ``wrong-schema``, ``timeout`` …) that callers count; there is
no default value.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from backends.protocols import LLM, Reply, Request, Turn
from methods.asking.parsing import Unparsed, model_from, schema_of
from methods.asking.sampling import Draw, calls_of, failure_of, sample
from schemas.method import Progress, silent

T = TypeVar("T")
S = TypeVar("S")
M = TypeVar("M", bound=BaseModel)

#: Failures that telling the model what was wrong may mend.
MENDABLE = frozenset({"unparsed", "wrong-schema"})
#: Failures that only another draw may mend.
DRAWN_ANEW = frozenset({"empty", "cut-off"})

AGAIN = "That reply cannot be used: {why}. Reply again, only in the form that was asked for."
FORM = "Reply with one JSON object and nothing else. It must match this JSON schema:\n{schema}"


class Asking(BaseModel):
    """How a question with a value for an answer is put."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["json", "text"] = Field(
        default="json",
        description="the answer as JSON of a schema (constrained where the engine can), or as a line of text",
    )
    tries: int = Field(
        default=2, ge=1, le=10, description="how often one question is asked before its answer counts as unread"
    )
    draw: Draw = Field(default=Draw(max_tokens=256), description="how the answer is drawn")


@dataclass(frozen=True)
class Heard(Generic[T]):
    """The value a model gave, or None with the class of the last failure and what was wrong; every reply on the way."""

    value: T | None
    replies: tuple[Reply, ...]
    failure: str | None = None
    why: str = ""

    @property
    def calls(self) -> tuple[bytes, ...]:
        """Keys of the calls that it took."""
        return tuple(calls_of(self.replies))

    def map(self, part: Callable[[T], S]) -> "Heard[S]":
        """The same with a part of the value, or another form of it."""
        return Heard(None if self.value is None else part(self.value), self.replies, self.failure, self.why)


def ask_for(
    llm: LLM,
    requests: Sequence[Request],
    read: Callable[[str], T | Unparsed],
    *,
    tries: int = 2,
    progress: Progress = silent,
    note: str = "",
) -> list[Heard[T]]:
    """One value per request, in order. ``read`` turns a complete reply into a value or says why it cannot.

    A reply that cannot be read is shown to the model with the reason and asked for again, in all at most ``tries``
    times; an empty one and one that was cut off only where the draw has chance in it.
    """
    heard: dict[int, Heard[T]] = {}
    todo = dict(enumerate(requests))
    for attempt in range(1, tries + 1):
        replies = sample(llm, list(todo.values()), progress=progress, note=note)
        again: dict[int, Request] = {}
        for (i, request), reply in zip(todo.items(), replies, strict=True):
            so_far = (*(heard[i].replies if i in heard else ()), reply)
            failure, why, value = failure_of(reply, complete=True), reply.message, None
            if failure is None:
                found = read(reply.text)
                if isinstance(found, Unparsed):
                    failure, why = "unparsed", found.why
                else:
                    value = found
            heard[i] = Heard(value, so_far, failure, why)
            if failure and attempt < tries and (mended := _mended(request, reply, failure, why)):
                again[i] = mended
        todo = again
        if not todo:
            break
    return [heard[i] for i in range(len(requests))]


def ask_for_model(
    llm: LLM,
    requests: Sequence[Request],
    shape: type[M],
    *,
    tries: int = 2,
    progress: Progress = silent,
    note: str = "",
) -> list[Heard[M]]:
    """One instance of a pydantic model per chat: its schema is put into words and given to the engine, then checked."""
    schema = schema_of(shape)
    shaped = [_with_form(request, schema) for request in requests]
    return ask_for(llm, shaped, partial(model_from, shape=shape), tries=tries, progress=progress, note=note)


def unheard(answers: Iterable[Heard[Any]]) -> Mapping[str, int]:
    """How many questions went without a value, by class of failure."""
    return dict(sorted(Counter(one.failure for one in answers if one.failure).items()))


def _mended(request: Request, reply: Reply, failure: str, why: str) -> Request | None:
    """The request to send after a reply that cannot be used; None where asking again cannot help."""
    sampling = request.sampling
    anew = replace(sampling, seed=sampling.seed + 7_000_003) if sampling.temperature > 0 else sampling
    if failure in MENDABLE and request.prompt is None and reply.text.strip():
        correction = Turn("user", AGAIN.format(why=why))
        turns = (*request.messages, Turn("assistant", reply.text), correction)
        return replace(request, messages=turns, sampling=anew)
    if (failure in DRAWN_ANEW or failure in MENDABLE) and sampling.temperature > 0:
        return replace(request, sampling=anew)
    return None


def _with_form(request: Request, schema: str) -> Request:
    """The chat with the schema after its last turn's words, and as a constraint for the engine."""
    *before, last = request.messages
    asked = replace(last, content=f"{last.content}\n\n{FORM.replace('{schema}', schema)}")
    return replace(request, messages=(*before, asked), sampling=replace(request.sampling, json_schema=schema))
