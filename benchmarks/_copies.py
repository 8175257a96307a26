"""Rows for the dedup benchmarks: real instructions multiplied, most copies rewritten beyond recognition, some hardly."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from schemas.examples import EXAMPLES, conform

SHIPPED = Path(__file__).resolve().parent.parent / "recipes" / "data"
FILES = {
    "gpteacher_codegen.jsonl": ("instruction", "input", "response"),
    "permissive_instructions.jsonl": ("instruction", "input", "output"),
}
NEAR = 0.2  # share of copies that are near-duplicates of their original


@dataclass(frozen=True)
class Copies:
    """``texts``; ``base`` is the real row each was made from; ``near`` says that at most two words were replaced."""

    texts: list[str]
    base: np.ndarray
    near: np.ndarray


def real_rows(data: str | None = None) -> list[str]:
    """Instruction, input and answer as one text each: the shipped rows, and Alpaca's where a folder of data is given."""
    texts: list[str] = []
    for name, (ask, given, answer) in FILES.items():
        for line in (SHIPPED / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts.append(f"{row[ask]}\n{row.get(given) or ''}\n{row[answer]}")
    folder = data or os.environ.get("PROVENDER_DATA")
    more = Path(folder) / "instructions" / "alpaca_52k.parquet" if folder else None
    if more and more.exists():
        frame = pl.read_parquet(more)
        texts += frame.select(pl.concat_str("instruction", "input", "output", separator="\n", ignore_nulls=True))[
            "instruction"
        ].to_list()
    return sorted(set(texts))


def copies(bases: Sequence[str], rows: int, rng_seed: int = 0) -> Copies:
    """``rows`` texts: the first ``len(bases)`` as they are, then copies; a copy that is not near has a third of its words
    replaced by words of the corpus, so that it shares few 5-grams with its original.
    """
    rng = np.random.default_rng(rng_seed)
    split = [text.split(" ") for text in bases]
    vocabulary = np.array([word for words in split for word in words if word], dtype=object)  # as frequent as they are
    near = rng.random(rows) < NEAR
    near[: len(bases)] = False
    texts: list[str] = []
    for row in range(rows):
        words = list(split[row % len(bases)])
        if row >= len(bases):
            edits = int(rng.integers(0, 3)) if near[row] else max(3, len(words) // 3)
            where = rng.integers(0, len(words), edits)
            for at, word in zip(where.tolist(), vocabulary[rng.integers(0, len(vocabulary), edits)], strict=True):
                words[at] = word
        texts.append(" ".join(words))
    return Copies(texts, np.arange(rows) % len(bases), near)


def pool_of(texts: pl.Series, first: int = 0) -> pl.DataFrame:
    """EXAMPLES with these answers; ids ascend, so that of a group the first row stays, as with the peers."""
    ids = pl.Series("id", [row.to_bytes(16, "big") for row in range(first, first + len(texts))], dtype=pl.Binary)

    def turn(role: str, content: pl.Expr) -> pl.Expr:
        return pl.struct(role=pl.lit(role), content=content, extra=pl.lit(None, dtype=pl.String))

    frame = pl.DataFrame({"id": ids, "content_hash": ids, "text": texts}).select(
        "id",
        "content_hash",
        pl.lit("bench").alias("source"),
        pl.concat_list(turn("user", pl.lit("")), turn("assistant", pl.col("text"))).alias("messages"),
    )
    return conform(
        frame.with_columns(*(pl.lit(None).alias(n) for n in EXAMPLES if n not in frame.columns)), EXAMPLES, "rows"
    )
