"""Examples whose words are the same as another's."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.conversation import content_at, texts_before_last
from methods.dedup._listing import Listing
from methods.dedup._repeats import WHAT, Found, Repeats
from methods.streamed import Batches, Streamed
from methods.texts.words import normalized, spacing_normalized
from schemas.lineage import Rule
from schemas.method import Using

_ROWS = 1 << 16  # of a pool worked on at once


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

    def judge_batches(self, batches: Batches, rows: int, *, using: Using) -> Iterator[pl.DataFrame]:
        """See `Streamed`: one pass over the texts, of which 16 bytes a row are kept."""
        listing, keys, done = Listing(rows), np.zeros((rows, 2), dtype=np.uint64), 0
        for batch in batches():
            self.list_rows(batch, listing)
            for piece in batch.iter_slices(_ROWS):
                keys[done : done + piece.height] = self._keys(piece)
                done += piece.height
                using.progress(done, rows, "hashes")
        row, home = self._repeats(keys, listing.whole())
        yield from self.verdicts(listing, Found(row, home, np.ones(len(row))), "exact-duplicate")

    def _repeats(self, keys: np.ndarray, listing: Listing) -> tuple[np.ndarray, np.ndarray]:
        """Rows that go, and for each the row that stays: the best of those with the same key, by the scope."""
        order = listing.best_first()
        same = keys[order]
        scoped = listing.sources[order] if self.scope == "within-source" else None
        # Stable: of a group the best comes first.
        by = np.lexsort((same[:, 1], same[:, 0]) if scoped is None else (scoped, same[:, 1], same[:, 0]))
        new = np.ones(len(by), dtype=bool)
        new[1:] = (same[by[1:]] != same[by[:-1]]).any(axis=1)
        if scoped is not None:
            new[1:] |= scoped[by[1:]] != scoped[by[:-1]]
        row, first = order[by], np.flatnonzero(new)
        home = np.repeat(row[first], np.diff(np.append(first, len(by))))
        goes = row != home if self.scope != "across-sources" else listing.sources[row] != listing.sources[home]
        return row[goes], home[goes]

    def _keys(self, pool: pl.DataFrame) -> np.ndarray:
        """What must be equal, 16 bytes per example, as two uint64."""
        said = pool.select(self._text(_LEVELS[self.normalize]).alias("text"))["text"]
        keys = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in said)
        return np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)

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
