"""Signatures, bands and the chance to meet, against published numbers, brute force and the binomial law."""

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.texts.minhash import (
    Affine61,
    OddMultipliers,
    Permutations,
    band_keys,
    best_bands,
    meeting_chance,
    signatures,
)

FOX = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
FAMILIES = [OddMultipliers.drawn, Affine61.drawn]
families = pytest.mark.parametrize("drawn", FAMILIES, ids=["odd-32", "affine-61"])


def shingle_hashes(words: list[str], n: int = 5) -> list[int]:
    return [xxhash.xxh64(" ".join(words[i : i + n]).encode()).intdigest() for i in range(len(words) - n + 1)]


def test_the_signature_of_the_quick_brown_fox_is_datatroves():
    family = Affine61.drawn(112, 1)
    assert (family.a[0], family.b[0]) == (775169054918279404, 1062448801025099917)
    dog, cat = shingle_hashes(FOX), shingle_hashes([*FOX[:-1], "cat"])
    assert dog[0] == 7797000677988824208
    two = signatures(np.array(dog + cat, dtype=np.uint64), np.array([0, 5, 10]), family)
    assert two[:8, 0].tolist() == [
        85330943174081874, 663359892825767826, 302227827184868053, 34440879854629237,
        1270900061947546662, 117899488208280896, 922286648869847700, 204404170303891102,
    ]  # fmt: skip
    assert (two[:, 0] == two[:, 1]).mean() == pytest.approx(0.7411, abs=5e-5)  # of a Jaccard of 4 / 6
    keys = band_keys(two, 14, 8)
    assert not (keys[:, 0] == keys[:, 1]).any()


def plain_signature(values: list[int], family: OddMultipliers | Affine61) -> list[int]:
    if isinstance(family, OddMultipliers):
        return [min(v * int(a) % 2**32 for v in values) for a in family.multipliers]
    pairs = zip(family.a.tolist(), family.b.tolist(), strict=True)
    return [min((v * a + b) % 2**64 % (2**61 - 1) for v in values) for a, b in pairs]


@families
@settings(deadline=None, max_examples=40)
@given(sets=st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), min_size=1, max_size=12))
def test_signatures_are_those_of_plain_python_whatever_the_sizes_of_the_sets(drawn, sets: list[list[int]]):
    family = drawn(5, 7)
    hashes = np.array([v for s in sets for v in s], dtype=np.uint32)
    first = np.cumsum([0, *map(len, sets)])
    assert signatures(hashes, first, family).T.tolist() == [plain_signature(s, family) for s in sets]


@families
def test_one_huge_set_among_many_small_ones_is_signed_like_alone(drawn):
    rng, family = np.random.default_rng(0), drawn(4, 1)
    sizes = np.array([1, 70_000, 3, 40_000, 1])
    hashes = rng.integers(0, 2**32, sizes.sum(), dtype=np.uint32)
    first = np.concatenate(([0], np.cumsum(sizes)))
    whole = signatures(hashes, first, family)
    for i in range(len(sizes)):
        alone = signatures(hashes[first[i] : first[i + 1]], np.array([0, sizes[i]]), family)
        assert whole[:, i].tolist() == alone[:, 0].tolist()


def test_no_set_has_no_signature():
    assert signatures(np.empty(0, np.uint32), np.array([0]), OddMultipliers.drawn(3, 1)).shape == (3, 0)


@families
@pytest.mark.parametrize(("similarity", "spread"), [(0.5, 0.0472), (0.8, 0.0378)])
def test_the_estimate_is_unbiased_and_spreads_like_independent_permutations(drawn, similarity: float, spread: float):
    """112 rows: standard deviation sqrt(J (1 - J) / 112); 4,000 pairs give it within about 4 %."""
    family: Permutations = drawn(112, 1)
    union = np.random.default_rng(3).integers(0, 2**32, (40, 4000), dtype=np.uint64)
    shared, own = int(40 * similarity), int(40 * (1 - similarity)) // 2
    one, other = family.least(union[: shared + own]), family.least(np.delete(union, slice(shared, shared + own), 0))
    estimate = (one == other).mean(axis=0)
    assert estimate.mean() == pytest.approx(similarity, abs=4 * spread / np.sqrt(4000))
    assert estimate.std() == pytest.approx(spread, rel=0.05)


@families
def test_pairs_meet_as_often_as_the_curve_says(drawn):
    """Jaccard 0.7 under 14 bands of 8 rows: 0.5645 of the pairs; 4,000 pairs, within three standard errors."""
    union = np.random.default_rng(5).integers(0, 2**32, (40, 4000), dtype=np.uint64)
    family = drawn(112, 1)
    one, other = union[:34], np.concatenate((union[:28], union[34:]))  # 28 of 40 shared
    meets = (band_keys(family.least(one), 14, 8) == band_keys(family.least(other), 14, 8)).any(axis=0)
    assert meets.mean() == pytest.approx(0.5645, abs=3 * np.sqrt(0.5645 * 0.4355 / 4000))


def test_band_keys_are_equal_exactly_where_all_rows_of_the_band_are():
    rng = np.random.default_rng(1)
    signature = rng.integers(0, 3, (12, 400), dtype=np.uint32)
    keys = band_keys(signature, 4, 3)
    for band in range(4):
        rows = [tuple(column) for column in signature[3 * band : 3 * band + 3].T]
        assert len(set(keys[band].tolist())) == len(set(rows)) == len(set(zip(keys[band].tolist(), rows, strict=True)))


@pytest.mark.parametrize(
    ("permutations", "threshold", "expected"),
    [(128, 0.5, (25, 5)), (128, 0.7, (14, 9)), (128, 0.8, (9, 13)), (200, 0.5, (33, 6)), (240, 0.7, (24, 10)),
     (256, 0.7, (25, 10)), (256, 0.8, (17, 15)), (112, 0.72, (12, 9))],
)  # fmt: skip
def test_the_best_bands_are_datasketchs(permutations: int, threshold: float, expected: tuple[int, int]):
    assert best_bands(threshold, permutations) == expected


def test_more_weight_on_misses_finds_more():
    bands, rows = best_bands(0.7, 128, 0.9)
    assert bands * rows <= 128
    assert meeting_chance(0.7, bands, rows) > 0.9 > 0.5 > meeting_chance(0.7, *best_bands(0.7, 128))


@pytest.mark.parametrize(
    ("bands", "rows", "chances"),
    [(14, 8, (0.0533, 0.5645, 0.9235, 0.9996)), (20, 13, (0.0024, 0.1769, 0.6773, 0.9972)),
     (450, 20, (0.0004, 0.3018, 0.9946, 1.0)), (50, 4, (0.9603, 1.0, 1.0, 1.0))],
    ids=["datatrove", "nemo", "lee", "text-dedup"],
)  # fmt: skip
def test_the_chance_to_meet_of_known_parameter_sets(bands: int, rows: int, chances: tuple[float, ...]):
    assert meeting_chance(np.array([0.5, 0.7, 0.8, 0.9]), bands, rows) == pytest.approx(chances, abs=5e-5)
