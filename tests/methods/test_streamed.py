"""Rows picked out of a pool in batches are those of the pool, in the order asked for."""

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.streamed import pieces_of, rows_at


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 31), st.randoms(use_true_random=False))
def test_rows_at_places_are_those_of_the_whole_pool_whatever_the_batches(count: int, size: int, dice: Any):
    pool = pl.DataFrame({"text": [f"text {n}" for n in range(count)]})
    places = np.array(dice.sample(range(count), dice.randint(0, count)), dtype=np.int64)
    found = rows_at(lambda: pool.iter_slices(size), places)
    assert found["text"].to_list() == [f"text {n}" for n in places]


def test_pieces_are_the_rows_again_and_no_longer_than_they_may_be():
    pool = pl.DataFrame({"n": range(10)})
    pieces = list(pieces_of(pool.iter_slices(7), 3))
    assert [piece.height for piece in pieces] == [3, 3, 1, 3]
    assert pl.concat(pieces).equals(pool)
