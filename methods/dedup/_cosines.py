"""Which unit vectors lie within a cosine of an earlier one: exact decisions, most pairs turned away by a bound.

The vectors are rotated so that their main directions come first. Of a pair, the dot product of the first m coordinates
plus the product of the lengths of what is left is at least the cosine (Cauchy-Schwarz); it is one matrix product in m + 1
dimensions. The few pairs that pass are computed in full, in double precision, rounded to six decimals, so that no
decision depends on how the work was cut.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from methods.parallel import in_order
from methods.spill import Table, let_go

DECIMALS = 6
_BLOCK = 1024
_SLACK = 2e-5  # more than float32 can lose in a dot product of unit vectors
_LOOKED_AT = 1500  # vectors that the number of coordinates is chosen by
_FULL_PAIR = 25.0  # a pair computed in full costs so many multiplications of a matrix product, per dimension


class Vectors:
    """Unit rows in the order in which they come, with their bounds; ``rows`` float32, (n, dim).

    With ``apart``, a number per row, only rows of different numbers are ever alike. ``in_memory``: see `methods.spill.Table`.
    """

    def __init__(
        self,
        rows: np.ndarray,
        threshold: float,
        apart: np.ndarray | None = None,
        threads: int | None = None,
        in_memory: int | None = None,
    ) -> None:
        self.rows, self.threshold, self.apart, self.threads = rows, threshold, apart, threads
        self.bound = _bounds(rows, threshold, in_memory)

    def __len__(self) -> int:
        return len(self.rows)

    def cosine(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Cosine of pairs of rows, float64, rounded: the same whichever comes first."""
        return cosines(self.rows, one, other)

    def let_go(self) -> None:
        """Of memory, where the vectors are in a file: see `methods.spill.let_go`."""
        let_go(self.rows)
        let_go(self.bound)

    def alike(self, some: np.ndarray, others: np.ndarray) -> "Pairs":
        """The pairs of one of ``some`` and an earlier one of ``others`` at or above the threshold."""
        left, blocks = self.bound[some], range(0, len(others), _BLOCK)
        found = in_order(lambda start: self._within(left, some, others[start : start + _BLOCK]), blocks, self.threads)
        nothing = Pairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
        together = [nothing, *found]
        return Pairs(
            np.concatenate([f.row for f in together]),
            np.concatenate([f.earlier for f in together]),
            np.concatenate([f.cosine for f in together]),
        )

    def _within(self, left: np.ndarray, some: np.ndarray, others: np.ndarray) -> "Pairs":
        possible = np.flatnonzero(left @ self.bound[others].T >= self.threshold - _SLACK)
        row, earlier = some[possible // len(others)], others[possible % len(others)]
        before = earlier < row
        if self.apart is not None:
            before &= self.apart[row] != self.apart[earlier]
        row, earlier = row[before], earlier[before]
        near = self.cosine(row, earlier)
        return Pairs(row, earlier, near).where(near >= self.threshold)


@dataclass(frozen=True)
class Pairs:
    """Parallel arrays: a row, an earlier one, and their cosine."""

    row: np.ndarray
    earlier: np.ndarray
    cosine: np.ndarray

    def where(self, which: np.ndarray) -> "Pairs":
        """Some of them (bool)."""
        return Pairs(self.row[which], self.earlier[which], self.cosine[which])


@dataclass(frozen=True)
class Homes:
    """Per row: the row it repeats (itself where it stays), and the cosine of the two (1 where it stays)."""

    home: np.ndarray
    cosine: np.ndarray

    @staticmethod
    def of(count: int) -> "Homes":
        """All stay."""
        return Homes(np.arange(count), np.ones(count))

    def still(self, some: np.ndarray) -> np.ndarray:
        """Those of some rows that stay so far."""
        return some[self.home[some] == some]

    def closest(self, pairs: Pairs) -> None:
        """Each row's home becomes the closest of its earlier ones, the first of equals."""
        order = np.lexsort((-pairs.earlier, pairs.cosine))  # the last one written wins
        self._write(pairs.where(order))

    def closer(self, pairs: Pairs) -> None:
        """The same where it is closer than the home a row has, if it has one."""
        now = np.where(self.home[pairs.row] == pairs.row, -1.0, self.cosine[pairs.row])
        self.closest(pairs.where(pairs.cosine > now))

    def first(self, pairs: Pairs) -> None:
        """Each row's home becomes the first of its earlier ones."""
        self._write(pairs.where(np.argsort(-pairs.earlier, kind="stable")))

    def _write(self, pairs: Pairs) -> None:
        self.home[pairs.row], self.cosine[pairs.row] = pairs.earlier, pairs.cosine


def cosines(rows: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`cosine` of the rows at matching places, float64, a block at a time."""
    near = np.empty(len(one))
    for start in range(0, len(one), _BLOCK):
        part = slice(start, start + _BLOCK)
        near[part] = cosine(rows[one[part]], rows[other[part]])
    return near


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of matching unit rows in double precision, rounded to six decimals."""
    return np.round((one.astype(np.float64) * other.astype(np.float64)).sum(axis=1), DECIMALS)


def first_come(vectors: Vectors, progress: Callable[[int], None]) -> Homes:
    """Each goes that is alike with an earlier one that stays, and repeats the one of those it is most alike with."""
    count = len(vectors)
    homes = Homes.of(count)
    kept, held = np.empty(count, dtype=np.int64), 0
    for block in _blocks(count):
        homes.closest(vectors.alike(block, kept[:held]))
        left = homes.still(block)
        inside = vectors.alike(left, left)
        stays = set(left.tolist())
        for row, earlier in _grouped(inside):
            if not stays.isdisjoint(earlier):
                stays.discard(row)
        staying = np.array(sorted(stays), dtype=np.int64)
        homes.closer(vectors.alike(np.setdiff1d(block, staying), staying))
        kept[held : held + len(staying)] = staying
        held += len(staying)
        vectors.let_go()
        progress(int(block[-1]) + 1)
    return homes


def any_earlier(vectors: Vectors, progress: Callable[[int], None]) -> Homes:
    """Each goes that is alike with an earlier one, even one that goes itself, and repeats the first of those.

    The rule of SemDeDup: chains collapse.
    """
    homes = Homes.of(len(vectors))
    for block in _blocks(len(vectors)):
        start, width = 0, _BLOCK
        while start <= block[-1]:
            left = homes.still(block)
            homes.first(vectors.alike(left, np.arange(start, min(start + width, int(block[-1]) + 1))))
            start, width = start + width, min(2 * width, 16 * _BLOCK)
        vectors.let_go()
        progress(int(block[-1]) + 1)
    return homes


def _bounds(rows: np.ndarray, threshold: float, in_memory: int | None) -> np.ndarray:
    """Rotated rows cut after m coordinates, with the length of the rest behind them, float32 (n, m + 1), spilled as they are."""
    count, dim = rows.shape
    if count < 2 * _BLOCK or dim <= 32:
        return np.asarray(rows, dtype=np.float32)
    some = np.asarray(rows[:: max(1, count // (8 * _LOOKED_AT))], dtype=np.float64)
    _, directions = np.linalg.eigh(some.T @ some)
    axes = directions[:, ::-1].astype(np.float32)
    sample = np.asarray(rows[:: max(1, count // _LOOKED_AT)], dtype=np.float32) @ axes
    let_go(rows)  # a sample touches most pages of a file
    sizes = [m for m in (8, 16, 24, 32, 48, 64, 96, 128, 192, 256) if m < dim]
    costs = {m: m + _FULL_PAIR * dim * _passing(_cut(sample, m), threshold) for m in sizes}
    m = min(costs, key=lambda size: costs[size])
    out = Table(count, m + 1, in_memory)
    for start in range(0, count, 1 << 14):
        part = _cut(np.asarray(rows[start : start + (1 << 14)], dtype=np.float32) @ axes, m)
        out.put(np.arange(start, start + len(part)), part)
        let_go(rows)
    return out.whole()


def _cut(rotated: np.ndarray, m: int) -> np.ndarray:
    rest = np.sqrt(np.square(rotated[:, m:], dtype=np.float64).sum(axis=1))
    return np.concatenate((rotated[:, :m], rest[:, None].astype(np.float32)), axis=1)


def _passing(bound: np.ndarray, threshold: float) -> float:
    """Share of the sample's pairs that the bound does not turn away."""
    return float(np.count_nonzero(bound @ bound.T >= threshold - _SLACK) - len(bound)) / max(1, len(bound) ** 2)


def _blocks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, _BLOCK):
        yield np.arange(start, min(count, start + _BLOCK))


def _grouped(pairs: Pairs) -> Iterator[tuple[int, set[int]]]:
    """Rows in ascending order, each with its earlier ones."""
    order = np.argsort(pairs.row, kind="stable")
    rows, first = np.unique(pairs.row[order], return_index=True)
    earlier, ends = pairs.earlier[order], [*first[1:].tolist(), len(order)]
    for row, start, end in zip(rows.tolist(), first.tolist(), ends[: len(rows)], strict=True):
        yield row, set(earlier[start:end].tolist())
