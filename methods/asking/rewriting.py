"""A verified rewrite with a fallback chain: ways of writing a text are tried in turn, the first that passes is taken.

Each way writes for all items that are still open in one list, and all of it is verified in one list; what no way could
do falls back on what was given. CLEAR's correction, S3FT, reflections and refinements are chains of this kind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from backends.protocols import Reply, Request
from methods.asking.sampling import calls_of, failure_of

I = TypeVar("I")  # noqa: E741  (an item: whatever is rewritten)


@dataclass(frozen=True)
class Passed:
    """What a verifier says of one text: None as reason lets it pass; ``calls`` are those the verdict took."""

    reason: str | None = None
    calls: tuple[bytes, ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Way(Generic[I]):
    """One way of writing: a name for the evidence, and the request for an item (None where it does not apply)."""

    name: str
    request: Callable[[I], Request | None]
    tidy: Callable[[str], str] = str.strip


@dataclass(frozen=True)
class Try:
    """One text that was written, and why it was not taken (None: it was)."""

    way: str
    text: str
    reason: str | None
    calls: tuple[bytes, ...]
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewritten:
    """The text that was taken and the way it came about (None: no way passed), and every try."""

    text: str | None
    way: str | None
    tries: tuple[Try, ...]

    @property
    def calls(self) -> tuple[bytes, ...]:
        """Every call of every try, in order, each once."""
        return tuple(dict.fromkeys(call for one in self.tries for call in one.calls))


def rewrite(
    items: Sequence[I],
    ways: Sequence[Way[I]],
    ask: Callable[[Sequence[Request]], Sequence[Reply]],
    verify: Callable[[Sequence[tuple[I, str]]], Sequence[Passed]],
) -> list[Rewritten]:
    """What became of each item, in order. Only complete, non-empty texts are verified.

    A failed call is a try with reason ``call-<class>``, an empty or cut-off text one with ``empty`` or ``cut-off``.
    """
    tries: list[list[Try]] = [[] for _ in items]
    taken: dict[int, str] = {}
    for way in ways:
        asked = [(i, request) for i, item in enumerate(items) if i not in taken and (request := way.request(item))]
        replies = ask([request for _, request in asked]) if asked else []
        written: list[tuple[int, str, Reply]] = []
        for (i, _), reply in zip(asked, replies, strict=True):
            reason = refusal_of(reply)
            text = way.tidy(reply.text)
            if reason or not text:
                tries[i].append(Try(way.name, text, reason or "empty", tuple(calls_of([reply]))))
            else:
                written.append((i, text, reply))
        verdicts = verify([(items[i], text) for i, text, _ in written]) if written else []
        for (i, text, reply), verdict in zip(written, verdicts, strict=True):
            calls = tuple(dict.fromkeys((*calls_of([reply]), *verdict.calls)))
            tries[i].append(Try(way.name, text, verdict.reason, calls, verdict.detail))
            if verdict.reason is None:
                taken[i] = text
    return [
        Rewritten(taken.get(i), tries[i][-1].way if i in taken else None, tuple(tries[i])) for i in range(len(items))
    ]


def refusal_of(reply: Reply, *, complete: bool = True) -> str | None:
    """Why a reply is no candidate, as a reason: ``empty``, ``cut-off``, or ``call-<class>``; None if it is one."""
    failure = failure_of(reply, complete=complete)
    return failure if failure in (None, "empty", "cut-off") else f"call-{failure}"
