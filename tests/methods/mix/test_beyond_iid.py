"""Interactions and the shares that follow from them: the specification's vertex, a planted helper, a kept order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from backends.tune.simulated import SimulatedTuner
from methods.mix.beyond_iid import BeyondIID
from methods.mixtures.curriculum import three_passes
from methods.mixtures.interactions import best_within_reach, equivalence
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods._pools import pool_of, rng

POOLS = {
    name: pool_of(*((f"skill-{name} question {i}?", f"an answer {name} {i}") for i in range(size)), source=name)
    for name, size in {"a": 50, "b": 30, "c": 20}.items()
}
GIVEN = {"a": {"b": 0.5, "c": 0.2}, "b": {"a": 0.3, "c": 0.1}, "c": {"b": 0.4}}


def test_the_vertex_of_the_specification_within_reach():
    scores = np.array([0.5, 0.3, 0.2]) @ np.array([[1, 0.5, 0.2], [0.3, 1, 0.1], [0, 0.4, 1]])
    assert scores == pytest.approx([0.59, 0.63, 0.33])
    start = np.array([0.5, 0.3, 0.2])
    found = best_within_reach(scores, start, 0.03, np.zeros(3), np.ones(3))
    assert found == pytest.approx([0.50, 0.33, 0.17])
    assert scores @ (found - start) == pytest.approx(0.009)
    assert best_within_reach(scores, start, 1.0, np.zeros(3), np.ones(3)) == pytest.approx([0, 1, 0]), "a vertex"


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float64, 4, elements=st.integers(-9, 9).map(float)),
    arrays(np.float64, 4, elements=st.integers(1, 9).map(float)),
    st.floats(0, 1),
)
def test_no_other_shares_within_the_bounds_are_better(scores: np.ndarray, sizes: np.ndarray, reach: float):
    linprog = pytest.importorskip("scipy.optimize").linprog
    start = sizes / sizes.sum()
    low, high = np.minimum(0.05, start), np.maximum(0.6, start)
    found = best_within_reach(scores, start, reach, low, high)
    assert found.sum() == pytest.approx(1)
    assert (found >= low - 1e-9).all()
    assert (found <= high + 1e-9).all()
    # in the ups u and downs d: shares = start + u - d, sum u = sum d, sum u <= reach
    bounds = [
        *((0, h - s) for h, s in zip(high, start, strict=True)),
        *((0, s - least) for least, s in zip(low, start, strict=True)),
    ]
    exact = linprog(
        [*-scores, *scores],
        A_eq=[[1] * 4 + [-1] * 4],
        b_eq=[0],
        A_ub=[[1] * 4 + [0] * 4],
        b_ub=[reach],
        bounds=bounds,
    )
    # HiGHS lets each bound be passed by 1e-7, which up to 18 points of score between two shares multiply
    assert scores @ (found - start) == pytest.approx(-exact.fun, abs=1e-5)


def test_bounds_that_force_a_move_win_and_bounds_without_room_are_named():
    found = best_within_reach(np.array([1.0, 2.0]), np.array([0.9, 0.1]), 0.0, np.array([0.0, 0.3]), np.ones(2))
    assert found == pytest.approx([0.7, 0.3])
    with pytest.raises(UsageError, match="leave no room"):
        best_within_reach(np.ones(2), np.full(2, 0.5), 0.1, np.full(2, 0.6), np.ones(2))


def test_a_unit_of_other_data_is_worth_what_its_loss_says():
    amounts, alone = [100, 200, 400], [3.0, 2.5, 2.0]
    assert equivalence(amounts, alone, 2.5, 100, 100) == pytest.approx(1.0), "as good as its own"
    assert equivalence(amounts, alone, 3.0, 100, 100) == pytest.approx(0.0), "nothing gained"
    assert equivalence(amounts, alone, 3.5, 100, 100) == pytest.approx(-0.5), "harm: half of its own undone"
    assert equivalence(amounts, alone, -9.0, 100, 100) == pytest.approx(3.0), "no farther than the longest run"
    assert equivalence(amounts, [2.0, 2.0, 2.0], 1.0, 100, 100) == 0.0, "a flat curve has no units"


def weigh(method: BeyondIID, tuner: SimulatedTuner | None = None):
    tools = Using(_tune=(tuner or SimulatedTuner(skills=("skill-a", "skill-b", "skill-c"))).open())
    return method.weigh(POOLS, using=tools, rng=rng())


def test_given_interactions_move_the_mixture_and_order_it():
    method = BeyondIID(interactions=GIVEN, check_seeds=0, curriculum="dependency", total_examples=1000, max_repeats=100)
    made = weigh(method)
    assert made.weights == pytest.approx({"a": 0.50, "b": 0.33, "c": 0.17}, abs=0.011), "sizes less what is held out"
    assert made.stages == {"b": 0, "c": 1, "a": 2}, "b helps the others most"
    staged = weigh(method.model_copy(update={"curriculum": (("c",), ("a",))}))
    assert staged.stages == {"a": 1, "b": 2, "c": 0}
    assert weigh(method.model_copy(update={"curriculum": "none"})).stages is None


def test_measured_interactions_find_the_planted_helper():
    tuner = SimulatedTuner(
        skills=("skill-a", "skill-b", "skill-c"),
        affinity=((1.0, 0.8, 0.8), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        start_loss=(3.0,),
        rate=0.1,
    )
    made = weigh(BeyondIID(pair_examples=32, check_seeds=0, reach=0.1), tuner)
    found = made.notes["interactions"]
    assert found["b"]["a"] > 0.5 < found["c"]["a"]
    assert abs(found["a"]["b"]) < 0.2 > abs(found["b"]["c"])
    assert found["a"]["a"] == 1.0
    assert max(made.notes["worth"], key=made.notes["worth"].get) == "a"
    assert made.notes["asked"]["a"] > 0.5, "and it gets what the others give up"
    assert made.runs is not None
    assert made.runs.height == 12, "three sizes of each of three sources, three pairs"


def test_names_that_no_source_has_are_refused():
    with pytest.raises(UsageError, match="interactions name 'x'; the sources are a, b, c"):
        weigh(BeyondIID(interactions={"a": {"x": 1.0}}, check_seeds=0))
    with pytest.raises(UsageError, match="curriculum names 'x'"):
        weigh(BeyondIID(interactions=GIVEN, check_seeds=0, curriculum=(("x",),)))


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 60), st.integers(0, 3)), min_size=1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_three_passes_give_each_source_three_times_its_share(pools: dict, early: float, back: float):
    take, stages = {n: t for n, (t, _) in pools.items()}, {n: s for n, (_, s) in pools.items()}
    parts = three_passes(take, stages, early, back)
    for name, count in take.items():
        assert sum(part.examples for part in parts if part.pool == name) == 3 * count
    assert {part.pool for part in parts if part.turn == 1} == set(take), "everything stands in the second pass"
    assert {part.stage for part in parts if part.turn > 0} == {0}, "which is shuffled, as the third"
    if len(set(stages.values())) == 1:
        assert sum(part.examples for part in parts if part.turn == 2) <= sum(take.values())


def test_a_large_mixture_repeats_less_of_its_foundations():
    for size, again in ((1000, 100), (60_000, 3000)):
        parts = three_passes({"sums": size, "talk": 10}, {"sums": 0, "talk": 1}, None, 0.1)
        assert [p.examples for p in parts if p.pool == "sums"] == [size, again, size, size - again]


def test_three_passes_are_a_curriculum_or_a_mistake():
    with pytest.raises(ValidationError, match="set `curriculum: dependency`"):
        BeyondIID(passes=3)
    made = BeyondIID(interactions=GIVEN, curriculum=(("a",), ("b", "c")), passes=3, check_seeds=0, reach=0.0).weigh(
        POOLS, using=Using(_tune=SimulatedTuner(skills=("skill-a",)).open()), rng=rng()
    )
    assert made.take == {"a": 150, "b": 90, "c": 60}
    assert made.weights == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2})
    assert sum(part.examples for part in made.course) == 300
