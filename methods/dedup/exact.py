"""Examples whose words are the same as another's."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.conversation import content_at, texts_before_last
from methods.dedup._equal_texts import TextKeys
from methods.dedup._listing import Listing
from methods.dedup._repeats import WHAT, Found, Repeats
from methods.streamed import Batches, Streamed
from methods.texts.words import normalized, spacing_normalized
from schemas.lineage import Rule
from schemas.method import Using


class Exact(Streamed, Repeats):
    """Drops an example when another of the same normalised text stays; of each group exactly one stays.

    ``normalize`` says how much may differ. ``spacing``: NFKC, without invisible characters, lower case, whitespace
    collapsed, so that ``3 + 4`` and ``3 - 4`` differ. ``words``: only the folded words count (`methods.texts.words`), not
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

    def judge_batches(
        self, batches: Batches, rows: int, *, using: Using, rng: np.random.Generator
    ) -> Iterator[pl.DataFrame]:
        """See `Streamed`: one pass over the texts, of which 16 bytes a row are kept; draws no number."""
        listing = Listing(rows)
        text = self._text(_LEVELS[self.normalize])
        keys = TextKeys.of(self.listed(batches, listing), rows, text, using.progress)
        row, home = self._repeats(keys, listing.whole())
        del keys  # while verdicts are stored
        yield from self.verdicts(listing, Found(row, home, np.ones(len(row))), "exact-duplicate")

    def _repeats(self, keys: TextKeys, listing: Listing) -> tuple[np.ndarray, np.ndarray]:
        """Rows that go, and for each the row that stays: the best of those with the same key, by the scope."""
        within = listing.sources if self.scope == "within-source" else None
        row, home = keys.best_equal(listing.best_first(), within)
        goes = row != home if self.scope != "across-sources" else listing.sources[row] != listing.sources[home]
        return row[goes], home[goes]

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
