"""Hidden states as vectors: the specification's pooling, rows that do not depend on their neighbors, mistakes that are named."""

import doctest

import numpy as np
import pytest

from backends.embed import hidden_states
from backends.embed.hidden_states import HiddenStates, weights
from schemas.errors import BackendError

TEXTS = [
    "What is 3 + 4? The answer is 7.",
    "Add 12 and 30. The sum is 42.",
    "Write a Python function that reverses a list. def reverse(xs): return xs[::-1]",
    "Write a Python function that sums a list. def total(xs): return sum(xs)",
]


def test_pooling_weights_of_the_specification_and_by_hand():
    assert doctest.testmod(hidden_states).failed == 0
    assert weights([2, 3], "weighted") == pytest.approx(np.array([[1 / 3, 2 / 3, 0], [1 / 6, 2 / 6, 3 / 6]]))
    assert weights([2, 3], "mean") == pytest.approx(np.array([[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]))
    assert weights([2, 3], "last").tolist() == [[0, 1, 0], [0, 0, 1]]


@pytest.fixture(scope="module")
def engine():
    return HiddenStates(device="cpu").open()


def test_rows_are_of_length_one_and_do_not_depend_on_their_neighbors(engine):
    rows = engine.embed([*TEXTS, "", "word " * 3000])
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    for text, row in zip(TEXTS, rows, strict=False):
        assert engine.embed([text])[0] == pytest.approx(row, abs=1e-4)
    assert engine.embed([]).shape == (0, rows.shape[1])


def test_texts_of_one_kind_are_nearer_to_each_other(engine):
    rows = engine.embed(TEXTS)
    cosine = rows @ rows.T
    assert cosine[0, 1] > max(cosine[0, 2], cosine[0, 3])
    assert cosine[2, 3] > max(cosine[0, 2], cosine[1, 2])


def test_pooling_and_layer_are_part_of_the_identity_and_a_layer_that_is_not_there_is_named(engine):
    assert engine.identity()["weights"]
    assert HiddenStates(pooling="mean").identity() != engine.identity()
    assert HiddenStates(layer=1).identity() != engine.identity()
    assert HiddenStates(batch_tokens=8).identity() == engine.identity()
    middle = HiddenStates(layer=1, device="cpu").open().embed(TEXTS[:1])
    assert not np.allclose(middle, engine.embed(TEXTS[:1]), atol=1e-2)
    with pytest.raises(BackendError, match="layer 99: the model has layers 0"):
        HiddenStates(layer=99, device="cpu").open()
