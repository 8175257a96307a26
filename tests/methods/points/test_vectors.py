"""Texts become vectors in lists of one size however the pool is cut, each where it belongs, in memory or in a file."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.points import vectors
from methods.points.vectors import embedded, embedded_in_batches, vectors_of
from schemas.errors import InvariantViolation
from schemas.method import Using
from tests.methods._pools import awkward_pool


class Numbers:
    """Texts that are numbers become rows that hold them; notes how many it was given at a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "numbers"}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(len(texts))
        return np.array([[len(text), sum(map(ord, text)) % 997] for text in texts], dtype=np.float32)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 8), st.booleans(), st.randoms(use_true_random=False))
def test_each_text_is_embedded_once_in_full_lists_and_lies_in_its_place(
    sizes: list[int], lot: int, file: bool, dice: Any
):
    count = sum(sizes)
    texts = pl.Series("text", [f"text {n}" for n in range(count)], dtype=pl.String)
    ends = np.cumsum([0, *sizes]).tolist()
    places = np.array(dice.sample(range(count), count), dtype=np.int64)
    engine, told = Numbers(), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "_TEXTS", lot)
        patch.setattr("methods.spill.IN_MEMORY", 0 if file else 1 << 20)
        cut = (texts[start:stop] for start, stop in pairwise(ends))
        found = vectors_of(cut, places, engine, told.append)
    assert engine.asked == [lot] * (count // lot) + ([count % lot] if count % lot else [])
    assert told == np.cumsum(engine.asked).tolist()
    if count:
        assert found[places].tolist() == Numbers().embed(texts.to_list()).tolist()
    else:
        assert found.shape == (0, 1)


@pytest.mark.parametrize("places", [4, 6])
def test_a_pool_of_another_length_is_refused(places: int):
    texts = pl.Series("text", ["a", "b", "c", "d", "e"])
    with pytest.raises(InvariantViolation, match=rf"5 texts or more were read, of {places} to embed"):
        vectors_of([texts], np.arange(places), Numbers(), lambda _: None)


def test_a_pool_in_batches_has_the_vectors_of_the_pool_in_the_order_asked_for():
    pool, using = awkward_pool(), Using(_embed=Numbers())
    order = np.random.default_rng(1).permutation(pool.height)
    for on in ("prompt", "answer", "both"):
        whole = embedded(pool, on, using)
        for size in (1, 7, 50):
            found = embedded_in_batches(lambda size=size: pool.iter_slices(size), order, on, using)
            assert np.array_equal(found, whole[order])
