"""Which rows of a pool have equal texts: 128 bits of BLAKE2b are kept of each text, and no text."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.streamed import pieces_of
from schemas.method import Progress

_ROWS = 1 << 16  # of a pool worked on at once


@dataclass(frozen=True)
class TextKeys:
    """``keys``, uint64 (rows, 2), are equal where texts are; ``blank``, bool, says which texts have no visible character."""

    keys: np.ndarray
    blank: np.ndarray

    @staticmethod
    def of(
        batches: Iterable[pl.DataFrame], rows: int, text: pl.Expr, progress: Progress, blank: str | None = None
    ) -> "TextKeys":
        """Those of a text per row (null counts as empty) of a pool of ``rows``; ``blank`` is what a blank text matches."""
        found, done = TextKeys(np.zeros((rows, 2), dtype=np.uint64), np.zeros(rows, dtype=bool)), 0
        for piece in pieces_of(batches, _ROWS):
            texts = piece.select(text.fill_null("").alias("text"))["text"]
            here = slice(done, done + len(texts))
            keys = b"".join(hashlib.blake2b(one.encode(), digest_size=16).digest() for one in texts)
            found.keys[here] = np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)
            if blank is not None:
                found.blank[here] = texts.str.contains(blank).to_numpy()
            done = here.stop
            progress(done, rows, "hashes")
        return found

    def best_equal(self, best_first: np.ndarray, sources: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The rows in some order, and for each the best row with the same text (and source, where ``sources`` is given)."""
        same = self.keys[best_first]
        scoped = None if sources is None else sources[best_first]
        # Stable: of a group the best comes first.
        by = np.lexsort((same[:, 1], same[:, 0]) if scoped is None else (scoped, same[:, 1], same[:, 0]))
        new = np.ones(len(by), dtype=bool)
        new[1:] = (same[by[1:]] != same[by[:-1]]).any(axis=1)
        if scoped is not None:
            new[1:] |= scoped[by[1:]] != scoped[by[:-1]]
        row, first = best_first[by], np.flatnonzero(new)
        return row, np.repeat(row[first], np.diff(np.append(first, len(by))))
