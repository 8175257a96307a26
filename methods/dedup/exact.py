"""Examples whose words are the same as another's."""

import hashlib
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.conversation import content_at, texts_before_last
from methods.dedup._repeats import WHAT, Found, Repeats
from methods.text import normalized, spacing_normalized
from schemas.lineage import Rule
from schemas.method import Using

_ROWS = 1 << 16  # of a pool worked on at once


class Exact(Repeats):
    """Drops an example when another of the same normalised text stays; of each group exactly one stays.

    ``normalize`` says how much may differ. ``spacing``: NFKC, without invisible characters, lower case, whitespace
    collapsed, so that ``3 + 4`` and ``3 - 4`` differ. ``words``: only the folded words count (`methods.text`), not
    punctuation, accents or look-alike letters. ``none``: every character. ``on: prompt`` compares all turns but the
    last, ``answer`` the last, ``both`` the whole conversation with its roles, tools and the other answer of a
    preference example. Equal means equal in 128 bits of BLAKE2b. Score: 1 for a repeat.

    Paper: none, baseline. Prompt-only dedup drops the second answer to a prompt: keep to ``both`` before a stage that
    chooses among answers.
    """

    method: Literal["exact"] = "exact"
    per_example: ClassVar[bool] = False

    normalize: Literal["none", "spacing", "words"] = Field("spacing", description="what may differ between equal texts")

    def rules(self) -> Sequence[Rule]:
        """One rule."""
        return [Rule(name="exact-duplicate", says=f"the {WHAT[self.on]} is the same as that of an example that stays")]

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `DedupMethod`; draws no number, and says the same whatever the order of the rows."""
        order = self.best_first(pool)
        groups = pl.DataFrame({"key": self._keys(pool, using), "source": pool["source"]})[order].with_columns(
            pl.Series("row", order)
        )
        within = ["key", "source"] if self.scope == "within-source" else ["key"]
        best = groups.unique(within, keep="first", maintain_order=True)
        judged = groups.join(
            best.select(*within, home="row", home_source="source"), on=within, how="left", nulls_equal=True
        )
        goes = pl.col("row") != pl.col("home")
        if self.scope == "across-sources":
            goes = pl.col("source").ne_missing(pl.col("home_source"))
        repeats = judged.filter(goes)
        row, home = repeats["row"].to_numpy(), repeats["home"].to_numpy()
        return self.verdicts(pool, Found(row, home, np.ones(len(row))), "exact-duplicate")

    def _keys(self, pool: pl.DataFrame, using: Using) -> pl.Series:
        """What must be equal, in 16 bytes per example."""
        text, keys = self._text(_LEVELS[self.normalize]).alias("text"), list[bytes]()
        for start in range(0, pool.height, _ROWS):
            said = pool.slice(start, _ROWS).select(text)["text"]
            keys += [hashlib.blake2b(said.encode(), digest_size=16).digest() for said in said]
            using.progress(len(keys), pool.height, "hashes")
        return pl.Series("key", keys, dtype=pl.Binary)

    def _text(self, level: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
        """What must be equal, as one text per example."""
        if self.on == "prompt":
            return level(texts_before_last())
        if self.on == "answer":
            return level(content_at(-1))
        tools = pl.col("tools").fill_null("")
        return pl.concat_str(
            _turns("messages", level), pl.lit("/"), _measured(tools), pl.lit("/"), _turns("worse", level)
        )


def _turns(column: str, level: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Roles and normalised contents of all turns, each preceded by its length, so that no text can pass for a boundary."""
    turn = pl.element().struct.field
    parts = (turn("role").fill_null(""), level(turn("content").fill_null("")), turn("extra").fill_null(""))
    return pl.col(column).list.eval(pl.concat_str(*map(_measured, parts))).list.join("").fill_null("")


def _measured(text: pl.Expr) -> pl.Expr:
    return pl.concat_str(text.str.len_bytes().cast(pl.String), pl.lit(":"), text)


def _folded(text: pl.Expr) -> pl.Expr:
    """Folded words; a text without any keeps what `spacing_normalized` leaves of it."""
    plain = spacing_normalized(text)
    words = text.map_elements(normalized, return_dtype=pl.String)
    return pl.when(words == "").then(plain).otherwise(words)


_LEVELS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "none": lambda text: text,
    "spacing": spacing_normalized,
    "words": _folded,
}
