"""Spherical k-means: each row at its nearest centroid, centroids the means of theirs, the same every time."""

from typing import IO

import numpy as np
import pytest

from methods import spill
from methods.points.kmeans import kmeans, nearest


def blobs(each: int, centers: int, dim: int, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    middle = np.repeat(chance.normal(size=(centers, dim)), each, axis=0)
    rows = middle + 0.1 * chance.normal(size=middle.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_no_cluster_mixes_blobs_and_every_centroid_is_the_direction_of_its_mean():
    rows = blobs(50, 4, 16)
    found = kmeans(rows, 12, np.random.default_rng(3))
    for c in set(found.label.tolist()):
        mine = np.flatnonzero(found.label == c)
        assert len({i // 50 for i in mine.tolist()}) == 1
        mean = rows[mine].mean(axis=0)
        assert found.centroids[c] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert found.cosine == pytest.approx((rows * found.centroids[found.label]).sum(axis=1), abs=1e-5)


def test_the_same_rng_gives_the_same_and_labels_are_the_nearest():
    rows = blobs(40, 9, 8)
    one, other = (kmeans(rows, 6, np.random.default_rng(1), sample=20) for _ in range(2))
    assert np.array_equal(one.label, other.label)
    assert np.array_equal(one.label, (rows @ one.centroids.T).argmax(axis=1))


def test_more_clusters_than_rows_no_rows_and_equal_rows():
    assert len(kmeans(blobs(1, 3, 4), 10, np.random.default_rng(0)).centroids) == 3
    assert kmeans(np.empty((0, 4), np.float32), 5, np.random.default_rng(0)).label.tolist() == []
    same = np.tile(blobs(1, 1, 4), (7, 1))
    assert len(set(kmeans(same, 3, np.random.default_rng(0)).label.tolist())) == 1


def test_rows_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch):
    rows = blobs(10, 3, 5)
    whole = nearest(rows, rows[::10])
    monkeypatch.setattr("methods.points.kmeans._ROWS", 7)
    assert np.array_equal(nearest(rows, rows[::10])[0], whole[0])


@pytest.mark.parametrize("k", [1, 9])
def test_a_sample_in_a_file_added_up_a_column_at_a_time_gives_the_same_numbers(k: int, monkeypatch: pytest.MonkeyPatch):
    rows = blobs(40, 9, 8)
    whole = kmeans(rows, k, np.random.default_rng(1), sample=20)
    files: list[int] = []

    def file_of(owner: object, size: int = 0) -> IO[bytes]:
        files.append(size)
        return real(owner, size)

    real = spill._file_of
    monkeypatch.setattr(spill, "_file_of", file_of)
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    monkeypatch.setattr("methods.points.kmeans._SUMMED", 1)
    found = kmeans(rows, k, np.random.default_rng(1), sample=20)
    assert files == [20 * k * 8 * 4], "the sample, and no other table"
    for one, other in ((whole.centroids, found.centroids), (whole.label, found.label), (whole.cosine, found.cosine)):
        assert np.array_equal(one, other)
    assert not isinstance(found.centroids, np.memmap)
