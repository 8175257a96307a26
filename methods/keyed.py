"""Chance that belongs to an example, not to its place: numbers from ``hash(rng_seed, id)``.

A pool that is reordered, sharded or grown gives each example the same number as before.
"""

import numpy as np
import polars as pl

from schemas.errors import InvariantViolation

_ONE_53 = 2.0**-53


def drawn_seed(rng: np.random.Generator) -> int:
    """The one number a method takes from its generator; everything else follows from it and the ids."""
    return int(rng.integers(0, 2**63))


def keyed_hashes(ids: pl.Series, rng_seed: int) -> np.ndarray:
    """A well-mixed uint64 per 16-byte id, shape (len(ids),). Equal ids get equal numbers."""
    first, second = halves(ids)
    state = mix64(np.full(len(ids), rng_seed % 2**64, dtype=np.uint64))
    return mix64(mix64(state ^ first) ^ second)


def halves(ids: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last 8 bytes of each 16-byte id as little-endian uint64, (len(ids),) each.

    Raises ``InvariantViolation`` for an id that is null or has another length.
    """
    odd = len(ids) - int((ids.bin.size() == 16).sum())
    if odd:
        raise InvariantViolation(f"ids are 16 bytes each; {odd} of {len(ids)} have another length, or there is none")
    both = ids.bin.reinterpret(dtype=pl.Array(pl.UInt64, 2), endianness="little").to_numpy()
    return both[:, 0], both[:, 1]


def keyed_uniform(ids: pl.Series, rng_seed: int) -> np.ndarray:
    """A float64 in [0, 1) per 16-byte id, shape (len(ids),)."""
    return (keyed_hashes(ids, rng_seed) >> np.uint64(11)).astype(np.float64) * _ONE_53


def by_key(key: np.ndarray, ids: pl.Series) -> np.ndarray:
    """Row positions, int64, in ascending order of ``key``; ties by id, so that row order never matters."""
    order = pl.DataFrame({"key": key, "id": ids}).with_row_index("row").sort("key", "id", maintain_order=True)
    return order["row"].to_numpy().astype(np.int64)


def mix64(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: a bijection of uint64 in which every input bit moves half of the output bits."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
