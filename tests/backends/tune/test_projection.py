"""The count sketch keeps inner products in expectation and is the same for equal seeds."""

import numpy as np

from backends.tune._projection import Projection


def test_inner_products_survive_the_projection() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50_000)
    y = 0.6 * x + 0.8 * rng.standard_normal(50_000)
    project = Projection([50_000], 4096, 7)
    a, b = project([x.astype(np.float32)]), project([y.astype(np.float32)])
    true = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert abs(a @ b / np.linalg.norm(a) / np.linalg.norm(b) - true) < 0.05
    assert abs(np.linalg.norm(a) / np.linalg.norm(x) - 1) < 0.05


def test_parts_are_one_vector_and_the_seed_decides() -> None:
    x = np.arange(1000, dtype=np.float32)
    whole, parts, other = Projection([1000], 64, 1), Projection([300, 700], 64, 1), Projection([1000], 64, 2)
    assert np.allclose(whole([x]), parts([x[:300], x[300:]]))
    assert not np.allclose(whole([x]), other([x]))
