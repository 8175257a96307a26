"""What a conversation says, as columns and as turns for an engine: roles, prompt, answer, single turns."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from backends.protocols import Turn

Role = Literal["system", "user", "assistant", "tool"]

_LETTERS = {"system": "s", "developer": "s", "user": "u", "assistant": "a", "tool": "t", "function": "t"}


_ROLES: Mapping[str, Role] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def as_turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """A stored conversation as engines take it: roles under their common names, an unknown one speaks as the user.

    >>> as_turns([{"role": "developer", "content": "Be brief."}, {"role": "human", "content": None}])
    [Turn(role='system', content='Be brief.'), Turn(role='user', content='')]
    """
    return [Turn(_ROLES[_LETTERS.get(turn["role"], "u")], turn["content"] or "") for turn in messages]


def teaches(turns: Sequence[Turn]) -> bool:
    """Whether a conversation ends with an assistant's turn that says something, after another turn."""
    return len(turns) > 1 and turns[-1].role == "assistant" and bool(turns[-1].content.strip())


def roles_of(messages: str = "messages") -> pl.Expr:
    """One letter per turn: s(ystem), u(ser), a(ssistant), t(ool), ``?`` for any other role; ``"sua"``."""
    letter = pl.element().struct.field("role").replace_strict(_LETTERS, default="?", return_dtype=pl.String)
    return pl.col(messages).list.eval(letter).list.join("")


def content_at(index: int, messages: str = "messages") -> pl.Expr:
    """Content of one turn (negative = from the end), empty where there is no such turn or it has none."""
    return pl.col(messages).list.get(index, null_on_oob=True).struct.field("content").fill_null("")


def texts_of(messages: str = "messages") -> pl.Expr:
    """All contents joined by blank lines."""
    return pl.col(messages).list.eval(pl.element().struct.field("content").fill_null("")).list.join("\n\n")


def texts_before_last(messages: str = "messages") -> pl.Expr:
    """All contents but the last turn's, joined by blank lines: what the answer answers."""
    before = pl.col(messages).list.head(pl.max_horizontal(pl.col(messages).list.len(), 1) - 1)
    return before.list.eval(pl.element().struct.field("content").fill_null("")).list.join("\n\n")


def turns_of(pool: pl.DataFrame, messages: str = "messages") -> pl.DataFrame:
    """One row per turn: ``row`` of the pool, ``turn`` from 0, ``role`` letter (see `roles_of`) and ``content``."""
    each = pool.select(pl.int_range(pl.len()).alias("row"), pl.col(messages).alias("said")).explode("said")
    return each.filter(pl.col("said").is_not_null()).select(
        "row",
        pl.int_range(pl.len()).over("row").alias("turn"),
        pl.col("said").struct.field("role").replace_strict(_LETTERS, default="?", return_dtype=pl.String).alias("role"),
        pl.col("said").struct.field("content").fill_null("").alias("content"),
    )
