"""Greedy sets: far from one another, or near to everything. Ties go to the earlier row; callers order rows by id."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from methods.parallel import in_order

_BLOCK = 2048
_AHEAD = 64  # rows compared with all others at once, in the hope that they are the next centers
_CELLS = 32_000_000  # of one block of similarities: 128 MB
_SAMPLE = 2048  # columns that the threshold of a row's neighbours is guessed from


def k_center(
    rows: np.ndarray, budget: float, progress: Callable[[int], None] | None = None, costs: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of rows, each the farthest from those before it, and each row's distance to the nearest kept.

    Goes on until the next row's cost (1 each by default) no longer fits ``budget``. Starts with the row nearest to the
    mean. Distances are Euclidean between unit rows; infinite where nothing fits. The largest distance is at most twice
    the best possible for as many rows. Paper: Gonzalez 1985, https://doi.org/10.1016/0304-3975(85)90224-5
    """
    n = len(rows)
    price = np.ones(n) if costs is None else costs
    least = max(1.0, float(price.min(initial=np.inf)))
    chosen: list[int] = []
    nearest = np.full(n, -np.inf, dtype=np.float32)  # largest cosine to a kept row; the smallest of these is farthest
    left = float(budget)
    at = int((rows @ rows.mean(axis=0)).argmax()) if n else 0
    near, place = np.empty((0, n), dtype=np.float32), dict[int, int]()
    for step in range(n):
        if price[at] > left:
            break
        if at not in place:
            # The farthest rows of now are the likely centers of the next steps: one product instead of one a step.
            width = min(_AHEAD, int(left // least), n) if step else 1
            width = max(1, width)
            ahead = np.argpartition(nearest, width - 1)[:width] if width < n else np.arange(n)
            ahead = ahead if at in ahead else np.append(ahead[:-1], at)
            del near  # not two of them at a time
            near, place = rows[ahead] @ rows.T, {int(row): i for i, row in enumerate(ahead)}
        chosen.append(at)
        left -= float(price[at])
        np.maximum(nearest, near[place[at]], out=nearest)
        nearest[at] = np.inf
        at = int(nearest.argmin())
        if progress and step % 256 == 255:
            progress(step + 1)
    if not chosen:
        return np.empty(0, dtype=np.int64), np.full(n, np.inf)
    cosine = np.where(np.isinf(nearest), 1.0, nearest)
    return np.array(chosen, dtype=np.int64), np.sqrt(np.maximum(0.0, 2.0 - 2.0 * cosine.astype(np.float64)))


@dataclass(frozen=True)
class Graph:
    """For each row its most similar rows, itself first, the others in no order: ``other`` int32, ``similarity`` float32.

    Both are (n, k).
    """

    other: np.ndarray
    similarity: np.ndarray


def nearest_graph(rows: np.ndarray, k: int, progress: Callable[[int], None] | None = None) -> Graph:
    """Exact k nearest rows by cosine (clipped at 0), blocks on several threads; a row is its own nearest."""
    n, k = len(rows), min(k, len(rows))
    other, similarity = np.empty((n, k), dtype=np.int32), np.empty((n, k), dtype=np.float32)

    size = max(1, min(_BLOCK, _CELLS // max(1, n)))

    def block(start: int) -> tuple[int, np.ndarray, np.ndarray]:
        near = rows[start : start + size] @ rows.T
        own = np.arange(len(near))
        near[own, start + own] = 2.0  # itself first, whatever rounding says
        best = _largest(near, k)
        at = (best == (start + own)[:, None]).argmax(axis=1)
        best[own, at], best[:, 0] = best[:, 0].copy(), start + own
        return start, best, np.take_along_axis(near, best, axis=1)

    for start, best, value in in_order(block, range(0, n, size)):
        other[start : start + len(best)], similarity[start : start + len(best)] = best, np.clip(value, 0.0, 1.0)
        if progress:
            progress(start + len(best))
    return Graph(other, similarity)


def _largest(near: np.ndarray, k: int) -> np.ndarray:
    """Columns of the ``k`` largest values of each row, in no order.

    A sample of the columns guesses a threshold that about three times as many pass; only those are partitioned. A row of
    which fewer than ``k`` pass is partitioned whole, so that the result never depends on the guess.
    """
    n = near.shape[1]
    if k >= n:
        return np.tile(np.arange(n), (len(near), 1))
    step = n // _SAMPLE
    if step < 2 or 8 * k > n:
        return np.argpartition(-near, k - 1, axis=1)[:, :k]
    sample = near[:, ::step]
    place = min(sample.shape[1] - 1, 3 * k // step + 8)
    limit = -np.partition(-sample, place, axis=1)[:, place]
    best = np.empty((len(near), k), dtype=np.int64)
    for i, row in enumerate(near):
        some = np.flatnonzero(row >= limit[i])
        if len(some) < k:
            some = np.arange(n)
        best[i] = some[np.argpartition(-row[some], k - 1)[:k]] if len(some) > k else some
    return best


def facility_location(graph: Graph, budget: float, costs: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Positions of rows that leave every row near a kept one, and the gain of each when it was taken.

    Goes on until the next row's cost (1 each by default) no longer fits ``budget``. Lazy greedy on the sum over rows of
    the similarity to the nearest kept neighbour in the graph; for rows of equal cost at least 1 - 1/e of the best on that
    graph. Paper: Minoux 1978, https://doi.org/10.1007/BFb0006528
    """
    n = len(graph.other)
    first, served, likeness, gains = _by_candidate(graph)
    covered = np.zeros(n)
    queue = [(-gain, row) for row, gain in enumerate(gains.tolist())]
    heapq.heapify(queue)
    chosen: list[int] = []
    won: list[float] = []
    price, left = np.ones(n) if costs is None else costs, float(budget)
    while queue and left > 0:
        stale, row = heapq.heappop(queue)
        here = slice(first[row], first[row + 1])
        some = served[here] if len(served) else slice(None)
        gain = float(np.maximum(likeness[here] - covered[some], 0.0).sum())
        if queue and (-gain, row) > queue[0] and gain < -stale:
            heapq.heappush(queue, (-gain, row))
            continue
        if price[row] > left:
            break
        left -= float(price[row])
        covered[some] = np.maximum(covered[some], likeness[here])  # a row has a candidate once among its neighbours
        chosen.append(row)
        won.append(gain)
    return np.array(chosen, dtype=np.int64), np.array(won)


def _by_candidate(graph: Graph) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Who is served by a candidate: the rows that have it among their neighbours, in order, and how well.

    Candidate c's are ``first[c]`` to ``first[c + 1]`` of ``served`` and ``likeness``; the last are the sums. Where every
    row has every other, ``served`` stays empty: all are served, in order.
    """
    n, k = graph.other.shape
    if k == n:
        dense = np.empty((n, n), dtype=np.float32)
        np.put_along_axis(dense, graph.other, graph.similarity, axis=1)
        whole = np.ascontiguousarray(dense.T)
        return np.arange(n + 1) * n, np.empty(0, np.int64), whole.ravel(), whole.sum(axis=1, dtype=np.float64)
    flat = graph.other.ravel()
    order = _stable_order(flat)
    served, likeness = (order // k).astype(np.int64), graph.similarity.ravel()[order].astype(np.float64)
    first = np.searchsorted(flat[order], np.arange(n + 1))
    gains = np.add.reduceat(np.append(likeness, 0.0), np.minimum(first[:-1], len(likeness)))
    gains[first[:-1] == first[1:]] = 0.0
    return first, served, likeness, gains


def _stable_order(values: np.ndarray) -> np.ndarray:
    """Stable ascending order of int32 values of 0 or more, by their halves: 16 bits are sorted in linear time."""
    order = np.argsort(values.astype(np.uint16), kind="stable")  # the low half
    high = (values >> 16).astype(np.uint16)
    return order[np.argsort(high[order], kind="stable")] if high.any() else order


def apart(
    rows: np.ndarray, most: float, budget: float = np.inf, costs: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Walk the rows in order and keep each whose cosine to every kept row is at most ``most``.

    Goes on until the cost of the next one to keep (1 each by default) no longer fits ``budget``. Returns positions kept;
    for every row the largest cosine to a row kept before it (-inf for none, NaN for rows that were not looked at), and
    that row's position (-1 for none). The same as one row at a time.
    """
    n = len(rows)
    price, left = np.ones(n) if costs is None else costs, float(budget)
    kept: list[int] = []
    nearest, whom = np.full(n, np.nan), np.full(n, -1, dtype=np.int64)
    for start in range(0, n, _BLOCK):
        if left <= 0:
            break
        part = rows[start : start + _BLOCK]
        best, who = np.full(len(part), -np.inf), np.full(len(part), -1, dtype=np.int64)
        for begin in range(0, len(kept), _BLOCK):
            some = np.array(kept[begin : begin + _BLOCK])
            near = part @ rows[some].T
            at = near.argmax(axis=1)
            value = near[np.arange(len(part)), at]
            better = value > best
            best[better], who[better] = value[better], some[at[better]]
        among = part @ part.T
        for i in range(len(part)):
            if left <= 0:
                break
            nearest[start + i], whom[start + i] = best[i], who[i]
            if best[i] > most:
                continue
            if price[start + i] > left:
                left = 0.0
                break
            kept.append(start + i)
            left -= float(price[start + i])
            later = among[i, i + 1 :]
            better = later > best[i + 1 :]
            best[i + 1 :][better], who[i + 1 :][better] = later[better], start + i
    return np.array(kept, dtype=np.int64), nearest, whom
