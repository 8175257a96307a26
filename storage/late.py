"""Whole rows of a few members: read when it is known which, not carried through every row that was looked at."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from schemas.lineage import Manifest
from storage.dense import Array, Places, places
from storage.seek import Reader

#: Stretches of texts that are read for one answer; of more, reading everything once is cheaper.
MOST_STRETCHES = 300
_NEAR = 2048
_TEXTS = ("id", "source", "messages", "tools", "worse", "license")
_REST = ("content_hash", "synthetic_depth", "extra")


def whole_rows(reader: Reader, manifest: Manifest, positions: Sequence[int]) -> pl.DataFrame | None:
    """The members at these positions, in this order, with ``position`` and all columns; None if they lie too far apart.

    Texts of a published version come from its own copy, where rows that are near in it are near.
    """
    at = np.array(positions, dtype=np.int64)
    where = places(reader, manifest.ref).at(at)
    published = reader.has(manifest.ref, "train")
    apart = _stretches(at) if published else sum(_stretches(where.row[where.home == n]) for n in np.unique(where.home))
    if apart > MOST_STRETCHES:
        return None
    numbered = pl.DataFrame({"position": at})
    if not published:
        return pl.concat([numbered, _of_homes(reader, where, (*_TEXTS, *_REST))], how="horizontal")
    texts = reader.rows(manifest.ref, "train", at.tolist(), _TEXTS)
    return pl.concat([numbered, texts, _of_homes(reader, where, _REST)], how="horizontal")


def _of_homes(reader: Reader, where: Places, columns: Sequence[str]) -> pl.DataFrame:
    """Columns of the examples at these places, in their order."""
    frames: list[pl.DataFrame] = []
    order: list[Array] = []
    for number, home in enumerate(where.homes):
        mine = np.flatnonzero(where.home == number)
        if len(mine):
            frames.append(reader.rows(home, "examples", where.row[mine].tolist(), columns))
            order.append(mine)
    if not frames:
        return reader.rows(where.homes[0], "examples", [], columns)
    return pl.concat(frames)[np.argsort(np.concatenate(order))]


def _stretches(rows: Array) -> int:
    return int((np.diff(np.unique(rows)) > _NEAR).sum()) + 1 if len(rows) else 0
