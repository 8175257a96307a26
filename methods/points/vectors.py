"""Examples as unit vectors: which text is embedded, and cosines by the block."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl

from schemas.errors import UsageError
from schemas.examples import answer_text, prompt_text
from schemas.method import Using

#: Which text of an example stands for it.
On = Literal["prompt", "answer", "both"]

_TEXTS = 4096  # embedded at once
_CELLS = 32_000_000  # of one block of cosines: 128 MB


def text_on(on: On) -> pl.Expr:
    """The text that stands for an example: what was asked, what was answered, or both."""
    asked, said = prompt_text().fill_null(""), answer_text().fill_null("")
    return {"prompt": asked, "answer": said, "both": pl.concat_str([asked, said], separator="\n\n")}[on]


def embedded(pool: pl.DataFrame, on: On, using: Using, note: str = "embeddings") -> np.ndarray:
    """Unit rows, float32, (len(pool), dim); equal texts are embedded once by the cache behind ``using.embed``."""
    texts = pool.select(text_on(on).alias("text"))["text"].to_list()
    rows = np.zeros((0, 1), dtype=np.float32)
    for start in range(0, len(texts), _TEXTS):
        block = np.asarray(using.embed.embed(texts[start : start + _TEXTS]), dtype=np.float32)
        if not start:
            rows = np.empty(
                (len(texts), block.shape[1]), dtype=np.float32
            )  # filled in place: no second copy at the end
        rows[start : start + len(block)] = block
        using.progress(min(start + _TEXTS, len(texts)), len(texts), note)
    return rows


def aimed(target: pl.DataFrame | None, method: str) -> pl.DataFrame:
    """The target set; ``UsageError`` where the recipe names none or it is empty."""
    if target is None or not target.height:
        raise UsageError(
            f"rank {method} aims at a target set and there is {'an empty one' if target is not None else 'none'}; "
            "add a source with `role: target` and name it in `target:` (`--target` on the command line)"
        )
    return target


def blocks_of_cosines(rows: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, cosines of a block of ``rows`` with all ``others``) in order, bounded memory."""
    size = max(1, _CELLS // max(1, len(others)))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size] @ others.T
