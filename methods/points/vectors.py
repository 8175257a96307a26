"""Examples as unit vectors: which text is embedded, and cosines by the block."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np
import polars as pl

from backends.protocols import Embedder
from methods.spill import Table, let_go
from methods.streamed import Batches
from schemas.errors import InvariantViolation, UsageError
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
    return embedded_in_batches(lambda: iter([pool]), np.arange(pool.height), on, using, note)


def embedded_in_batches(
    texts: Batches, order: np.ndarray, on: On, using: Using, note: str = "embeddings"
) -> np.ndarray:
    """Unit rows, float32, (len(order), dim): row i is the example at ``order[i]`` of the pool that ``texts`` reads.

    ``order`` has every example once. The texts are never in memory together; see `vectors_of`.
    """
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    said = (batch.select(text_on(on).alias("text"))["text"] for batch in texts())
    return vectors_of(said, places, using.embed, lambda done: using.progress(done, len(order), note))


def vectors_of(
    texts: Iterable[pl.Series], places: np.ndarray, embed: Embedder, told: Callable[[int], None]
) -> np.ndarray:
    """Unit rows, float32, (len(places), dim), that of the n-th text in row ``places[n]``; in a file where they outgrow memory.

    As many texts are embedded at a time however they are cut, and ``told`` hears how many are. ``InvariantViolation`` where
    there are more texts than places, or fewer.
    """
    table: Table | None = None
    done = 0
    for lot in _lots(texts):
        here = places[done : done + len(lot)]
        done += len(lot)
        if done > len(places):
            break
        found = np.asarray(embed.embed(lot), dtype=np.float32)
        table = table or Table(len(places), found.shape[1])
        table.put(here, found)
        told(done)
    if done != len(places):
        raise InvariantViolation(f"{done} texts or more were read, of {len(places)} to embed; read the pool again")
    return table.whole() if table else np.zeros((0, 1), dtype=np.float32)


def _lots(texts: Iterable[pl.Series]) -> Iterator[list[str]]:
    """The texts, so many at a time whatever the pieces they come in."""
    waiting: list[str] = []
    for piece in texts:
        for start in range(0, len(piece), _TEXTS):
            waiting += piece[start : start + _TEXTS].to_list()
            if len(waiting) >= _TEXTS:
                yield waiting[:_TEXTS]
                waiting = waiting[_TEXTS:]
    if waiting:
        yield waiting


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
        let_go(rows)
        let_go(others)
