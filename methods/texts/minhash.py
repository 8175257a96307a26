"""MinHash: signatures of sets of hashes, bands of signatures, and what chance a pair of given similarity has to meet.

A signature row is the least value of one hash function over the set; two sets agree in a row with probability equal to
their Jaccard similarity J, so that ``rows`` equal rows in at least one of ``bands`` bands happen with 1 - (1 - J^rows)^bands.

Paper: Broder 1997, "On the resemblance and containment of documents"; bands: Leskovec, Rajaraman & Ullman, chapter 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from methods.keyed import mix64

_BLOCK = 1 << 15  # hashes worked on at once: what stays in a core's cache
_MERSENNE_61 = np.uint64((1 << 61) - 1)
_BAND_BASE = np.uint64(0xD1342543DE82EF95)


class Permutations(Protocol):
    """A family of hash functions."""

    @property
    def count(self) -> int:
        """How many: the rows of a signature."""
        ...

    def least(self, block: np.ndarray) -> np.ndarray:
        """Signatures of equally large sets, one per column of ``block`` (size of a set, sets): (count, sets)."""
        ...


@dataclass(frozen=True)
class OddMultipliers:
    """``x -> a x mod 2^32`` for odd ``a``: bijections, one multiplication each, 32-bit signatures.

    The elements must be well-mixed hashes (`methods.texts.shingles`): then each row is a uniform choice from the union of two
    sets, as MinHash needs. The spread of the estimate is measured in the tests: that of independent permutations.
    """

    multipliers: np.ndarray

    @staticmethod
    def drawn(count: int, seed: int) -> "OddMultipliers":
        """Multipliers from a seed."""
        state = np.full(count, seed % 2**64, dtype=np.uint64) + np.arange(count, dtype=np.uint64) * _BAND_BASE
        return OddMultipliers((mix64(mix64(state)) >> np.uint64(32)).astype(np.uint32) | np.uint32(1))

    @property
    def count(self) -> int:
        """Rows of a signature."""
        return len(self.multipliers)

    def least(self, block: np.ndarray) -> np.ndarray:
        """uint32, shape (count, sets)."""
        x, scaled = block.astype(np.uint32, copy=False), np.empty(block.shape, dtype=np.uint32)
        least = np.empty((self.count, block.shape[1]), dtype=np.uint32)
        for row, a in enumerate(self.multipliers):
            np.multiply(x, a, out=scaled)
            np.minimum.reduce(scaled, axis=0, out=least[row])
        return least


@dataclass(frozen=True)
class Affine61:
    """``x -> ((a x + b) mod 2^64) mod (2^61 - 1)``, the family of datatrove (FineWeb) and datasketch; about 5 times slower.

    The product wraps at 2^64 before it is reduced, as it does there: not a universal family, but the published one.
    """

    a: np.ndarray
    b: np.ndarray

    @staticmethod
    def drawn(count: int, seed: int) -> "Affine61":
        """The numbers that datatrove draws from a seed: all ``a`` in [1, 2^61 - 1), then all ``b`` in [0, 2^61 - 1)."""
        legacy = np.random.RandomState(seed)  # the published signatures come from this generator
        top = int(_MERSENNE_61)
        a = np.array([legacy.randint(1, top, dtype=np.uint64) for _ in range(count)], dtype=np.uint64)
        b = np.array([legacy.randint(0, top, dtype=np.uint64) for _ in range(count)], dtype=np.uint64)
        return Affine61(a, b)

    @property
    def count(self) -> int:
        """Rows of a signature."""
        return len(self.a)

    def least(self, block: np.ndarray) -> np.ndarray:
        """uint64, shape (count, sets)."""
        x, mixed = block.astype(np.uint64, copy=False), np.empty(block.shape, dtype=np.uint64)
        high, least = np.empty_like(mixed), np.empty((self.count, block.shape[1]), dtype=np.uint64)
        for row in range(self.count):
            np.multiply(x, self.a[row], out=mixed)
            mixed += self.b[row]
            np.right_shift(mixed, np.uint64(61), out=high)
            mixed &= _MERSENNE_61
            mixed += high
            np.subtract(mixed, _MERSENNE_61, out=high)  # wraps to a huge number where it was already reduced
            np.minimum(mixed, high, out=mixed)
            np.minimum.reduce(mixed, axis=0, out=least[row])
        return least


def signatures(hashes: np.ndarray, first: np.ndarray, family: Permutations) -> np.ndarray:
    """Signatures of the sets ``hashes[first[i]:first[i+1]]``, none empty; shape (family.count, sets)."""
    out: np.ndarray | None = None
    for sets, least in signature_blocks(hashes, first, family):
        if out is None:
            out = np.empty((family.count, len(first) - 1), dtype=least.dtype)
        out[:, sets] = least
    return np.empty((family.count, 0), dtype=np.uint64) if out is None else out


def signature_blocks(
    hashes: np.ndarray, first: np.ndarray, family: Permutations
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same in pieces: positions of some sets, shape (n,), and their signatures, shape (family.count, n).

    Sets of like size are put side by side as columns, filled up with their own last element, which changes no minimum.
    """
    size = np.diff(first)
    by_size = np.argsort(size, kind="stable")
    start = 0
    while start < len(by_size):
        # The largest of the block decides its height; sizes ascend, so that little is filled up.
        stop = start + max(1, min(_BLOCK // int(size[by_size[start]]), 1 << 14))
        stop = start + max(1, min(stop - start, _BLOCK // int(size[by_size[min(stop, len(by_size)) - 1]])))
        sets = by_size[start:stop]
        height = int(size[sets[-1]])
        place = first[sets] + np.minimum(np.arange(height)[:, None], size[sets] - 1)
        yield sets, family.least(hashes[place])
        start += len(sets)


def band_keys(signature: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """One uint64 per band and set, equal where the band's rows are; shape (bands, sets). Rows beyond them are unused."""
    grouped = signature[: bands * rows].reshape(bands, rows, -1)
    keys = np.zeros((bands, grouped.shape[2]), dtype=np.uint64)
    for row in range(rows):
        keys += grouped[:, row]
        keys *= _BAND_BASE
        keys ^= keys >> np.uint64(29)
    return mix64(keys)


def meeting_chance(similarity: np.ndarray | float, bands: int, rows: int) -> np.ndarray:
    """Probability that two sets of this Jaccard similarity share a band."""
    return 1 - (1 - np.asarray(similarity, dtype=np.float64) ** rows) ** bands


@lru_cache
def best_bands(threshold: float, permutations: int, miss_weight: float = 0.5) -> tuple[int, int]:
    """``(bands, rows)`` that use at most ``permutations`` rows with the least error around the threshold.

    The error is ``(1 - w) ∫ chance below + w ∫ (1 - chance) above`` the threshold; ``w`` = 0.5 is datasketch's rule, more
    finds more pairs at the price of more candidates.
    """
    step = 0.001
    below = np.arange(step / 2, threshold, step)
    above = np.arange(threshold + step / 2, 1, step)
    best, least = (1, 1), np.inf
    for bands in range(1, permutations + 1):
        for rows in range(1, permutations // bands + 1):
            false = meeting_chance(below, bands, rows).sum() * step
            missed = (1 - meeting_chance(above, bands, rows)).sum() * step
            error = (1 - miss_weight) * false + miss_weight * missed
            if error < least:
                best, least = (bands, rows), error
    return best
