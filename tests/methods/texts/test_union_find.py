"""Components and greedy choice against the plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from methods.texts.union_find import first_come, joined

LINKS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1]))
    )
)


def columns(links: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(links, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@given(LINKS, st.integers(0, 30))
def test_labels_are_the_least_member_of_each_component_also_when_links_come_in_two_parts(linked, cut: int):
    count, links = linked
    label = list(range(count))
    for a, b in links * count:
        label[a] = label[b] = min(label[a], label[b])
    first = joined(np.arange(count), *columns(links[:cut]))
    assert joined(first, *columns(links[cut:])).tolist() == label


def test_a_long_chain_is_one_component():
    n = 5000
    chain = np.random.default_rng(0).permutation(n)
    assert joined(np.arange(n), chain[1:], chain[:-1]).max() == 0


@given(LINKS)
def test_first_come_is_the_loop(linked):
    count, links = linked
    stays = [True] * count
    for thing in range(count):
        stays[thing] = not any(stays[a] for a, b in links if b == thing)
    assert first_come(count, *columns(links)).tolist() == stays


def test_first_come_along_a_chain_keeps_every_other():
    stays = first_come(1001, np.arange(1000), np.arange(1, 1001))
    assert stays.tolist() == [i % 2 == 0 for i in range(1001)]
