"""A version's examples in member order and bounded memory, also when that order is a shuffle of millions.

In order, each batch is read from the few objects it reaches. A shuffled batch reaches everywhere; there the examples are
read once, in the order they lie in, and dealt out to one file per batch in a temporary folder outside the store.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from schemas.errors import StoreUnwritable
from storage.gather import Gatherer

_PIECE_ROWS = 65_536


def batches(gatherer: Gatherer, members: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    """EXAMPLES for these positions, ``rows`` at a time. Raises ``StoreUnwritable`` if a shuffle finds no room to deal."""
    if members.height > rows and gatherer.scattered(members, rows):
        yield from _dealt(gatherer, members, rows)
        return
    for piece in members.iter_slices(rows):
        if piece.height:
            yield gatherer.take(piece)


def _dealt(gatherer: Gatherer, members: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    with tempfile.TemporaryDirectory(prefix="provender-") as folder:
        order = members.with_row_index("place").sort("home", "row", maintain_order=True)
        for number, piece in enumerate(order.iter_slices(_PIECE_ROWS)):
            _deal(gatherer, piece, rows, Path(folder), number)
        for batch in range(-(-members.height // rows)):
            pile = Path(folder, str(batch))
            hand = pl.concat([pl.read_ipc(card) for card in sorted(pile.iterdir())]).rechunk()
            yield hand[hand["place"].arg_sort()].drop("place")
            for card in pile.iterdir():
                card.unlink()


def _deal(gatherer: Gatherer, piece: pl.DataFrame, rows: int, folder: Path, number: int) -> None:
    import numpy as np  # not at the top: who only reads a row does without

    places = piece["place"].to_numpy()
    examples = gatherer.take(piece.select("home", "row")).with_columns(place=pl.Series(places))
    by_batch = np.argsort(places // rows, kind="stable")
    examples = examples.rechunk()[pl.Series(by_batch.astype(np.uint32))]
    batch, first = np.unique(np.sort(places // rows), return_index=True)
    last = [*first[1:], len(places)]
    for which, start, end in zip(batch, first, last, strict=True):
        card = folder / str(which) / f"{number:08d}"
        try:
            card.parent.mkdir(exist_ok=True)
            examples.slice(int(start), int(end - start)).write_ipc(card)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StoreUnwritable(
                f"no room to put a shuffled dataset in order in {folder}: {reason}; set TMPDIR to a larger disk"
            ) from error
