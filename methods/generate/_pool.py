"""A pool as questions with answers: which examples can be worked on, and which of them answer the same question."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from backends.protocols import Turn
from methods.conversation import as_turns
from methods.generate._account import Account
from methods.generate._ledger import Pedigree
from schemas.errors import EmptyStage, UsageError
from schemas.identity import canonical_json


@dataclass(frozen=True)
class Given:
    """An example that ends with an answer. ``before`` and ``answer`` are as they are stored, to the letter."""

    id: bytes
    before: tuple[Mapping[str, Any], ...]
    answer: str
    tools: str | None
    source: str
    fields: Mapping[str, Any]  # every other field of the source row

    @property
    def question(self) -> str:
        """The last user turn."""
        return next((str(turn["content"] or "") for turn in reversed(self.before) if turn["role"] == "user"), "")

    @property
    def asked(self) -> tuple[Turn, ...]:
        """The turns before the answer, as an engine wants them."""
        return turns_before(self.before)

    @property
    def conversation(self) -> str:
        """All that the answer answers, for a judge: the question alone, or every turn under its role."""
        if len(self.before) == 1:
            return self.question
        return "\n\n".join(f"[{turn['role']}]\n{turn['content'] or ''}" for turn in self.before)

    def field(self, name: str | None) -> str | None:
        """A field of the source row as text; None where there is none."""
        value = self.fields.get(name) if name else None
        if value is None:
            return None
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Group:
    """All examples that answer one question, by id."""

    members: tuple[Given, ...]

    @property
    def first(self) -> Given:
        """The one that stands for the question."""
        return self.members[0]

    @property
    def ids(self) -> tuple[bytes, ...]:
        """The ids of all."""
        return tuple(member.id for member in self.members)


def given_of(seeds: pl.DataFrame, account: Account, what: str, *, answered: bool = True) -> list[Given]:
    """The usable examples in order of their ids; every other one is refused (``no-question``, ``no-answer``).

    With ``answered`` false an example may lack its answer. Raises ``EmptyStage`` when none is usable.
    """
    found: list[Given] = []
    for row in seeds.sort("id").iter_rows(named=True):
        messages: list[Mapping[str, Any]] = row["messages"] or []
        ended = bool(messages) and messages[-1]["role"] == "assistant"
        before = tuple(messages[:-1] if ended else messages)
        answer = str(messages[-1]["content"] or "") if ended else ""
        given = Given(row["id"], before, answer, row["tools"], row["source"] or "", _fields(row["extra"]))
        reason = None
        if not given.question.strip():
            reason = "no-question"
        elif answered and not answer.strip():
            reason = "no-answer"
        if reason:
            account.refuse(given.conversation, reason, Pedigree((given.id,), (), {}))
        else:
            found.append(given)
    if not found:
        why = ", ".join(f"{name} {count}" for name, count in account.reasons().items()) or "the pool is empty"
        raise EmptyStage(f"{what} finds nothing to work on among {seeds.height} seed examples ({why})")
    return found


def need_field(given: Sequence[Given], option: str, name: str | None) -> None:
    """``UsageError``, before anything is asked, where no example's source row says anything in the field of an option."""
    if name and not any((one.field(name) or "").strip() for one in given):
        there = sorted({field for one in given for field in one.fields if not field.startswith("_")})
        raise UsageError(
            f"{option}: none of {len(given)} examples has a field {name!r}; "
            f"their source rows have {', '.join(there[:20]) or 'no other field'}"
        )


def groups_of(given: Sequence[Given]) -> list[Group]:
    """Examples by question (all turns before the answer and the tools, Unicode and outer spaces aside), in order of ids."""
    groups: dict[str, list[Given]] = {}
    for one in sorted(given, key=lambda one: one.id):
        said = [[turn["role"], str(turn["content"] or "").strip()] for turn in one.before]
        groups.setdefault(canonical_json([said, one.tools]), []).append(one)
    return [Group(tuple(members)) for members in groups.values()]


def turns_before(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Stored turns as an engine wants them; a role that engines do not know speaks as the user."""
    return tuple(as_turns(messages))


def _fields(text: str | None) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
