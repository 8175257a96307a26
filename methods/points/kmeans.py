"""Spherical k-means: unit rows into k groups by cosine, in float32, deterministic given the order of the rows.

Rows may lie in a file (`methods.spill`); so does the sample the rounds are made on, where it outgrows memory.
"""

from dataclasses import dataclass

import numpy as np

from methods.spill import let_go, taken

_ROWS = 8192  # compared with all centroids at once, at most
_CELLS = 1 << 25  # cosines in memory at once: 128 MiB
_SUMMED = 1 << 22  # numbers that are added up at once: 32 MiB


@dataclass(frozen=True)
class Clustering:
    """``centroids`` are unit rows, float32 (k, dim); ``label`` the nearest one of each row, int64 (n,), and ``cosine`` to it."""

    centroids: np.ndarray
    label: np.ndarray
    cosine: np.ndarray


def kmeans(rows: np.ndarray, k: int, rng: np.random.Generator, *, rounds: int = 20, sample: int = 256) -> Clustering:
    """Lloyd's rounds on at most ``sample`` rows a cluster, drawn by ``rng``; then every row to its nearest centroid.

    Starts from k distinct rows. A cluster that loses all its rows keeps its centroid. Ends early when nothing moves.
    """
    k = min(k, len(rows))
    if not k:
        return Clustering(np.empty((0, rows.shape[1]), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
    drawn = np.sort(rng.permutation(len(rows))[: max(k, min(len(rows), sample * k))])
    some = taken(rows, drawn)
    centroids = np.array(some[np.sort(rng.permutation(len(some))[:k])])
    label = np.full(len(some), -1, dtype=np.int64)
    for _ in range(rounds):
        before, (label, _) = label, nearest(some, centroids)
        if np.array_equal(before, label):
            break
        centroids = _means(some, label, centroids)
    return Clustering(centroids, *nearest(rows, centroids))


def nearest(rows: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the centroid with the greatest cosine, int64, and that cosine, float32; the first one wins a tie."""
    label, cosine = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32)
    size = max(1, min(_ROWS, _CELLS // max(1, len(centroids))))
    for start in range(0, len(rows), size):
        near = np.asarray(rows[start : start + size], dtype=np.float32) @ centroids.T
        best = near.argmax(axis=1)
        label[start : start + len(near)] = best
        cosine[start : start + len(near)] = near[np.arange(len(near)), best]
        let_go(rows)
    return label, cosine


def _means(rows: np.ndarray, label: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Normalized means of the rows of each label; the old centroid where there is none (or they cancel out)."""
    order = np.argsort(label, kind="stable")
    filled, first = np.unique(label[order], return_index=True)
    sums = _sums(rows, order, first)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    moved = centroids.copy()
    moved[filled] = np.where(length > 0, sums / np.maximum(length, 1e-12), centroids[filled])
    return moved


def _sums(rows: np.ndarray, order: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Sums of the rows between each place in ``order`` of ``first`` and the next, float64, a block of places at a time.

    Numpy adds a long column up in halves, so a place is never cut; one that is longer than a block goes some columns at a time.
    """
    ends, dim = np.append(first[1:], len(order)), rows.shape[1]
    sums, most, start = np.empty((len(first), dim)), max(1, _SUMMED // dim), 0
    while start < len(first):
        stop = max(start + 1, int(np.searchsorted(ends, first[start] + most, side="right")))
        some, begins = order[first[start] : ends[stop - 1]], first[start:stop] - first[start]
        width = max(1, min(dim, _SUMMED // len(some)))
        for column in range(0, dim, width):
            part = slice(column, column + width)
            sums[start:stop, part] = np.add.reduceat(rows[some, part], begins, axis=0, dtype=np.float64)
        let_go(rows)
        start = stop
    return sums
