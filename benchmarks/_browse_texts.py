"""Texts for the browser's benchmark: sentences of the shipped rows and a few in other scripts, put together at random."""

import json

import numpy as np
import polars as pl

from benchmarks._copies import real_rows
from schemas.examples import EXAMPLES, MESSAGES

SCRIPTS = (
    "请用简单的话解释光合作用。",
    "把下面的句子翻译成英文。",
    "Опишите историю города у реки.",
    "Сколько будет семь умножить на восемь?",
    "اشرح كيف يعمل المحرك الكهربائي.",
    "दो संख्याओं का योग ज्ञात कीजिए।",
)
PROMPT = "Come up with a task like these:\n{examples}\nIt should differ from all of them and can be answered in a few sentences."


class Texts:
    """Makes frames of examples and of calls."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        cut = (s.strip() for text in real_rows() for s in text.replace("\n", ". ").split(". "))
        sentences = sorted({s for s in cut if 20 < len(s) < 200})
        self.bank = pl.Series("bank", [*sentences, *SCRIPTS * (len(sentences) // 100)])

    def examples(self, source: str, start: int, count: int, spdx: str | None, depth: int) -> pl.DataFrame:
        """EXAMPLES: a question of one or two sentences with its number, an answer of two to seven."""
        ids = random_ids(self.rng, count)
        numbered = pl.format(" ({}-{})", pl.lit(source), pl.int_range(start, start + count))
        turns = pl.concat_list(_turn("user", pl.col("ask") + numbered), _turn("assistant", pl.col("answer")))
        frame = pl.DataFrame(
            {
                "id": ids,
                "content_hash": random_ids(self.rng, count),
                "ask": self.some(count, 1, 3),
                "answer": self.some(count, 2, 8),
            }
        )
        return frame.select(
            "id", "content_hash",
            pl.lit(source).alias("source"),
            turns.cast(MESSAGES).alias("messages"),
            pl.lit(None, pl.String).alias("tools"),
            pl.lit(None, MESSAGES).alias("worse"),
            pl.lit(spdx, pl.String).alias("license"),
            pl.lit(depth, pl.UInt8).alias("synthetic_depth"),
            pl.lit('{"category":"open_qa"}').alias("extra"),
        ).select(*EXAMPLES)  # fmt: skip

    def some(self, count: int, low: int, high: int) -> pl.Series:
        """Texts of ``low`` to ``high - 1`` sentences."""
        length = self.rng.integers(low, high, count)
        columns = []
        for place in range(high - 1):
            picked = self.bank.gather(self.rng.integers(0, self.bank.len(), count).astype(np.uint32))
            columns.append(
                pl.DataFrame({f"s{place}": picked, "there": length > place}).select(
                    pl.when("there").then(f"s{place}").alias(f"s{place}")
                )
            )
        return (
            pl.concat(columns, how="horizontal")
            .select(pl.concat_str(pl.all(), separator=". ", ignore_nulls=True))
            .to_series()
        )

    def calls(self, keys: list[bytes]) -> pl.DataFrame:
        """CALLS of these keys."""
        request = {
            "model": "teacher-8b",
            "messages": [["user", PROMPT]],
            "sampling": {"temperature": 0.7, "max_tokens": 256},
        }
        n = len(keys)
        return pl.DataFrame(
            {
                "key": keys, "model": ["teacher-8b"] * n, "request": [json.dumps(request)] * n, "reply": self.some(n, 2, 6),
                "finish_reason": ["stop"] * n, "prompt_tokens": [120] * n, "completion_tokens": self.rng.integers(30, 200, n),
                "cost_usd": self.rng.random(n) / 1000, "attempts": [1] * n, "cached": [False] * n, "failure": [None] * n,
            },
            schema_overrides={"failure": pl.String},
        )  # fmt: skip


def _turn(role: str, text: pl.Expr) -> pl.Expr:
    return pl.struct(pl.lit(role).alias("role"), text.alias("content"), pl.lit(None, pl.String).alias("extra"))


def random_ids(rng: np.random.Generator, count: int) -> pl.Series:
    """Random ids, 16 bytes each."""
    raw = rng.bytes(16 * count)
    return pl.Series("id", [raw[i : i + 16] for i in range(0, len(raw), 16)], dtype=pl.Binary)
