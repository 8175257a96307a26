"""Pools of a few conversations for the filters' tests."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from schemas.examples import EXAMPLES, turns


def pool(*pairs: tuple[str, str], source: Sequence[str] | str = "s", **columns: Sequence[Any]) -> pl.DataFrame:
    """One user turn and one answer each; other columns by name, the rest null."""
    return conversations(*(turns(("user", q), ("assistant", a)) for q, a in pairs), source=source, **columns)


def conversations(
    *messages: Sequence[dict[str, Any]], source: Sequence[str] | str = "s", **columns: Any
) -> pl.DataFrame:
    """Any conversations; ids count up from 1."""
    height = len(messages)
    sources = [source] * height if isinstance(source, str) else list(source)
    frame = pl.DataFrame(
        {"id": [bytes([i + 1]) * 16 for i in range(height)], "messages": list(messages), "source": sources, **columns},
        schema_overrides={"id": pl.Binary, "messages": EXAMPLES["messages"]},
    )
    return frame.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in EXAMPLES.items() if name not in frame.columns
    ).select(*EXAMPLES)


#: Texts that have broken text tools before: none may crash a filter.
AWKWARD = (
    "", " ", "\x00", "a" * 1_000_000, "שלום עולם", "مرحبا بالعالم", "👍🏽👨‍👩‍👧‍👦", "z\u200be\u200br\u200bo",
    "日本語のテキストです。",
    "```python\nprint(1)\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "\ud7ff\ue000", "1" * 5000, "a@b." * 2000, "e\u0301" * 500,
)  # fmt: skip
