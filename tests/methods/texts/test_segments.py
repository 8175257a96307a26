"""Ranges sorted together are as if sorted one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.texts import segments
from methods.texts.segments import counted, equal_neighbours, sorted_segments

RANGES = st.lists(st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([0, 7, 2**32 - 1]), max_size=12), max_size=12)


@settings(deadline=None)
@given(ranges=RANGES, block=st.integers(1, 40))
def test_each_range_is_sorted_and_its_repeats_are_marked(ranges: list[list[int]], block: int):
    values = np.array([v for r in ranges for v in r], dtype=np.uint32)
    first = np.cumsum([0, *map(len, ranges)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_BLOCK", block)
        found = sorted_segments(values, first)
    assert found.tolist() == [v for r in ranges for v in sorted(r)]
    assert counted(equal_neighbours(found, first), first).tolist() == [len(r) - len(set(r)) for r in ranges]


def test_the_values_given_stay_as_they_are_and_a_long_range_is_no_trouble():
    values = np.random.default_rng(0).integers(0, 2**32, 200_005, dtype=np.uint32)
    before = values.copy()
    found = sorted_segments(values, np.array([0, 3, 200_003, 200_003, 200_005]))
    assert np.array_equal(values, before)
    assert np.array_equal(found[3:200_003], np.sort(values[3:200_003]))
