"""Rankings by gradients and feedback: closed forms, planted skills, what cannot be scored, what is remembered."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backends.tune.simulated import SimulatedTuner
from backends.tune.torch_loop import TorchTuner
from methods.points.spectra import effective_rank, nuclear_norm, summary
from methods.rank.gradient_spectrum import GradientSpectrum
from methods.rank.less import Less, aggregated, unit
from schemas.errors import EmptyStage, UsageError
from schemas.method import Using
from tests.methods._pools import pool_of, rng

TUNER = SimulatedTuner(
    skills=("river", "sum", "joke"), affinity=((1.0, 0.4, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), start_loss=(3.0,)
)
POOL = pool_of(
    ("tell a joke", "no"), ("name a river", "the rhine"), ("sum of two", "four"), ("name a river now", "the seine"),
    ("tell a joke now", "why"), ("sum of three", "six"), ("no answer", ""), ("sum of four", "ten"),
)  # fmt: skip
TARGET = pool_of(("sum of nine", "45"), ("sum of five", "15"), ("tell one joke", "ha"), source=["a", "a", "b"])


def remembering() -> tuple[Any, list[dict[str, Any]]]:
    """A memory, and the questions for which something had to be measured."""
    known: dict[str, Any] = {}
    asked: list[dict[str, Any]] = []

    def once(what: Any, make: Any) -> Any:
        if repr(what) not in known:
            asked.append(dict(what))
            known[repr(what)] = make()
        return known[repr(what)]

    return once, asked


def scores(method: Any, **using: Any) -> list[float | None]:
    tools = Using(_tune=TUNER.open(), **using)
    return method.rank(POOL, target=TARGET, using=tools, rng=rng(1))["score"].to_list()


def test_less_prefers_what_pushes_the_target_and_serves_each_subtask():
    found = dict(zip(["joke", "river", "sum", "river", "joke", "sum", "", "sum"], scores(Less(dim=4096)), strict=True))
    assert found["sum"] == pytest.approx(1.0, abs=1e-6), "the same push as a whole subtask"
    assert found["joke"] == pytest.approx(1.0, abs=1e-6), "the other subtask counts as well: the largest, not the mean"
    assert found["river"] == pytest.approx(0.4 / np.hypot(1, 0.4), abs=0.05), "helps sums a little"
    assert found[""] is None, "nothing to learn from"


def test_less_over_one_subtask_is_the_mean_over_its_examples():
    found = scores(Less(dim=4096, subtasks="all"))
    assert found[2] == pytest.approx(2 / 3, abs=0.05)
    assert found[0] == pytest.approx(1 / 3, abs=0.05)


def test_checkpoints_count_by_their_learning_rate_and_the_best_subtask_wins():
    influence = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 0.4], [0.5, 0.5]]])
    best, mean = aggregated(influence, np.array([3.0, 1.0]))
    assert best == pytest.approx([0.75, 0.5])
    assert mean == pytest.approx([(0.75 + 0.1) / 2, 0.5])
    assert aggregated(influence, np.zeros(2))[0] == pytest.approx([0.5, 0.5]), "no rate at all: each checkpoint alike"


def test_directions_have_length_one_or_none():
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0]]))
    assert found.tolist() == [[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]


def test_what_was_measured_is_not_measured_again():
    once, asked = remembering()
    first = scores(Less(dim=64), once=once)
    assert len(asked) == 4, "one chunk at each of four checkpoints"
    assert scores(Less(dim=64), once=once) == first
    assert len(asked) == 4
    scores(Less(dim=128), once=once)
    assert len(asked) == 8, "another projection is another question"


@pytest.mark.parametrize("method", [Less()])
def test_a_method_that_aims_names_what_is_missing(method: Any):
    tools = Using(_tune=TUNER.open())
    with pytest.raises(UsageError, match="add a source with `role: target`"):
        method.rank(POOL, target=None, using=tools, rng=rng())
    with pytest.raises(UsageError, match="none of 1 target examples has an answer"):
        method.rank(POOL, target=POOL.filter(pl.col("id") == POOL["id"][6]), using=tools, rng=rng())
    with pytest.raises(EmptyStage, match="none of 1 examples asks and answers"):
        method.rank(POOL[6:7], target=TARGET, using=tools, rng=rng())


@pytest.mark.parametrize(
    ("singular", "nuclear", "rank"),
    [((1, 1, 1), 3, 3), ((4, 3, 0), 7, 1.979626), ((3, 1), 4, 1.754765), ((5, 0, 0), 5, 1), ((0, 0), 0, 0)],
)
def test_spectra_of_the_specification(singular: tuple[float, ...], nuclear: float, rank: float):
    assert nuclear_norm(singular) == pytest.approx(nuclear)
    assert effective_rank(singular) == pytest.approx(rank, abs=1e-6)


@given(arrays(np.float64, st.integers(1, 12), elements=st.floats(1e-3, 1e3)), st.floats(1e-3, 1e3))
def test_effective_rank_ignores_scale_and_lies_between_one_and_the_rank(singular: np.ndarray, scale: float):
    assert 1 - 1e-9 <= effective_rank(singular) <= len(singular) + 1e-9
    assert effective_rank(scale * singular) == pytest.approx(effective_rank(singular))
    assert nuclear_norm(scale * singular) == pytest.approx(scale * nuclear_norm(singular))


def test_a_spectrum_is_averaged_over_layers_then_over_matrices():
    one, wide = np.array([2.0]), np.array([1.0, 1.0, 1.0])
    assert summary({"q": (one, wide), "v": (wide, wide)}) == pytest.approx(((2.5 + 3) / 2, (2 + 3) / 2))


def test_spectra_rank_by_width_or_by_size():
    wide = scores(GradientSpectrum())
    assert wide[1] == pytest.approx(effective_rank([2.0, 0.8]))
    assert wide[0] == wide[2] == 1.0, "one direction"
    assert wide[6] is None
    by_size = scores(GradientSpectrum(by="nuclear-norm"))
    assert by_size[1] == pytest.approx(-2.8)
    assert by_size[0] == pytest.approx(-2.0)
    with pytest.raises(UsageError, match=r"no projection 'w_proj'; it has skills"):
        scores(GradientSpectrum(matrices=("w_proj",)))


@pytest.mark.engine
def test_on_a_real_proxy_the_same_kind_of_task_has_more_influence_than_another_kind():
    colors = [(f"Color of the {thing}?", f"The {thing} is green.") for thing in ("door", "roof", "wall", "car")]
    rivers = [
        (f"Name a river of {land}.", f"{land} has the long river Loma.") for land in ("France", "Peru", "Chad", "Laos")
    ]
    pool = pool_of(*colors, *rivers)
    target = pool_of(("Color of the boat?", "The boat is green."), ("Color of the lamp?", "The lamp is green."))
    tuner = TorchTuner(adapter="lora", batch_size=4, learning_rate=1e-3, threads=1).open()
    method = Less(warmup_fraction=0.5, checkpoints=2, dim=1024)
    found = method.rank(pool, target=target, using=Using(_tune=tuner), rng=rng())["score"].to_numpy()
    assert found[:4].min() > found[4:].max()
    assert np.abs(found).max() <= 1.0
    again = method.rank(pool.reverse(), target=target, using=Using(_tune=tuner), rng=rng())["score"].to_numpy()
    assert again[::-1] == pytest.approx(found, abs=1e-6)
