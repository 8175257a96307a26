"""What a proxy model says about each example: examples in the order of their ids, a durable chunk at a time."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from backends.protocols import Tuning
from methods.keyed import by_key, keyed_hashes
from methods.mixtures.runs import learnable
from schemas.errors import EmptyStage, UsageError
from schemas.method import Using

#: Part of every remembered measurement's identity; rises when the same question would get another answer.
SIGNAL_VERSION = 1


def taught(pool: pl.DataFrame, method: str) -> pl.DataFrame:
    """The examples that a proxy can learn (columns id, content_hash, messages, source), by id; ``EmptyStage`` of none."""
    rows = learnable(pool)
    if not rows.height:
        raise EmptyStage(f"{method}: none of {pool.height} examples asks and answers; filter the pool first")
    return rows


def goals(target: pl.DataFrame, method: str) -> pl.DataFrame:
    """As `taught`, of the target set; ``UsageError`` where no target example has an answer."""
    rows = learnable(target)
    if not rows.height:
        raise UsageError(f"rank {method}: none of {target.height} target examples has an answer to measure on")
    return rows


def drawn(rows: pl.DataFrame, count: int, rng_seed: int) -> pl.DataFrame:
    """``count`` rows, at least one, by ``hash(rng_seed, id)``, in the order they came in."""
    places = by_key(keyed_hashes(rows["id"], rng_seed), rows["id"])[: max(1, count)]
    return rows[np.sort(places).tolist()]


def digest(rows: pl.DataFrame) -> str:
    """What the rows say, in order."""
    return hashlib.sha256(b"".join(rows["content_hash"].to_list())).hexdigest()[:32]


def session_when_needed(using: Using, rng_seed: int) -> Callable[[], Tuning]:
    """One session of the tuner, opened at the first call: never, where everything is remembered."""
    return cache(lambda: using.tune.start(rng_seed))


def by_chunk(
    rows: pl.DataFrame,
    what: Mapping[str, Any],
    measure: Callable[[pl.DataFrame], Mapping[str, Any]],
    using: Using,
    note: str,
    size: int = 64,
) -> Sequence[Mapping[str, Any]]:
    """``measure`` (JSON values) of each ``size`` rows in order, made once per store: a killed step goes on at the chunk.

    ``what`` names all that decides the measurement, apart from the rows and the engines.
    """
    found: list[Mapping[str, Any]] = []
    for start in range(0, rows.height, size):
        part = rows[start : start + size]
        question = {"version": SIGNAL_VERSION, **what, "rows": digest(part)}
        found.append(using.once(question, lambda part=part: measure(part)))
        using.progress(min(start + size, rows.height), rows.height, note)
    return found


def over_pool(pool: pl.DataFrame, rows: pl.DataFrame, **columns: np.ndarray) -> pl.DataFrame:
    """Columns measured on ``rows`` by the pool's ids: null for the others and for what is not finite."""
    values = {
        name: pl.Series(column, dtype=pl.Float64).set(~pl.Series(np.isfinite(column)), None)
        for name, column in columns.items()
    }
    known = pl.DataFrame({"id": rows["id"], **values}).unique("id")
    return pool.select("id").join(known, on="id", how="left", maintain_order="left")
