"""Rankings that aim at a target: closed forms against brute force, the specification's vectors, and missing targets."""

from collections import Counter
from itertools import permutations

import numpy as np
import polars as pl
import pytest

from methods.rank.dsir import Buckets, Dsir
from methods.rank.got_d import GotD
from methods.rank.knn_shapley import KnnShapley, shapley_values
from methods.rank.rds_plus import RdsPlus, round_robin
from methods.spill import Columns
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods._engines import Hashed
from tests.methods._pools import pool_of, rng

USING = Using(_embed=Hashed())
POOL = pool_of(
    ("name a river", "the rhine"), ("name a river", "the seine"), ("sum two numbers", "four"), ("sum of numbers", "five"),
    ("write a poem", "roses are red"), ("name a lake", "lake constance"), ("tell a joke", "no"),
)  # fmt: skip
TARGET = pool_of(("name a river of france", "the loire"), ("name a lake", "lake como"), source="aim")


@pytest.mark.parametrize(
    ("neighbors", "values"),
    [(1, (0.75, -0.25, 0.25, 0.25, 0)), (2, (0.25, -0.25, 0.25, 0.25, 0)), (3, (0.25, -0.08333, 0.25, 0.25, 0))],
)
def test_shapley_values_of_the_specification_and_of_every_permutation(
    neighbors: int, values: tuple[float, ...]
) -> None:
    distance, agree = np.array([[0.1, 0.4, 0.9, 1.6, 2.5]]), np.array([[1, 0, 1, 1, 0]])
    assert shapley_values(distance, agree, neighbors)[0] == pytest.approx(values, abs=1e-5)


def test_the_closed_form_is_the_mean_over_all_orders_of_arrival() -> None:
    draw = np.random.default_rng(0)
    distance, agree = draw.random((1, 6)), draw.random((1, 6))

    def utility(group: tuple[int, ...]) -> float:
        near = sorted(group, key=lambda i: distance[0, i])[:2]
        return sum(agree[0, i] for i in near) / 2

    total = np.zeros(6)
    orders = list(permutations(range(6)))
    for order in orders:
        for place, i in enumerate(order):
            total[i] += utility(order[: place + 1]) - utility(order[:place])
    found = shapley_values(distance, agree, 2)[0]
    assert found == pytest.approx(total / len(orders))
    assert found.sum() == pytest.approx(utility(tuple(range(6)))), "values share out the whole utility"


def in_columns(near: np.ndarray, in_memory: int | None = None) -> Columns:
    found = Columns(near.shape[1], near.shape[0], in_memory, np.float32)
    found.put(0, near.T)
    return found


def test_round_robin_of_the_specification_and_over_shards() -> None:
    near = np.array([[0.9, 0.8], [0.5, 0.2], [0.7, 0.85], [0.1, 0.1]])
    assert np.argsort(round_robin(in_columns(near)))[:3].tolist() == [0, 2, 1]
    draw = np.random.default_rng(1).random((50, 4)).astype(np.float32)
    turn = round_robin(in_columns(draw))
    assert turn.tolist() == round_robin(in_columns(draw, 0)).tolist(), "in a file as in memory"
    assert sorted(turn.tolist()) == list(range(50)), "every candidate has a turn"
    assert [int(np.flatnonzero(turn == q)[0]) for q in range(1)] == [int(draw[:, 0].argmax())]


def test_dsir_buckets_of_the_specification_and_counts() -> None:
    hasher = Buckets(10_000)
    assert (hasher.of("the"), hasher.of("the cat")) == (8288, 143)
    assert hasher("The cat, the") == Counter(
        {hasher.of("the"): 2, hasher.of("cat"): 1, hasher.of(","): 1, hasher.of("the cat"): 1, hasher.of("cat ,"): 1,
         hasher.of(", the"): 1}
    )  # fmt: skip


def test_dsir_draws_in_proportion_to_its_weights() -> None:
    pool = pool_of(*[("same words", f"number {i}") for i in range(400)])
    even = Dsir(on="prompt").rank(pool, target=TARGET, using=USING, rng=rng(1))
    assert even["log_weight"].n_unique() == 1, "equal texts weigh the same"
    top = set(even.sort("score", descending=True).head(200)["id"].to_list())
    first_half = set(pool["id"].head(200).to_list())
    assert 70 <= len(top & first_half) <= 130, "and are drawn uniformly"
    heaviest = Dsir(resample=False).rank(POOL, target=TARGET, using=USING, rng=rng(1))
    order = heaviest.sort("score", descending=True)["id"].to_list()
    assert {POOL["id"].to_list().index(i) for i in order[:3]} <= {0, 1, 5}, "rivers and lakes are what the target has"


@pytest.mark.parametrize("method", [GotD(), RdsPlus(), KnnShapley(), Dsir(), RdsPlus(turns="source")])
def test_a_target_is_needed_and_row_order_decides_nothing(method) -> None:
    for target in (None, TARGET.head(0)):
        with pytest.raises(UsageError, match="role: target"):
            method.rank(POOL, target=target, using=USING, rng=rng())
    one = method.rank(POOL, target=TARGET, using=USING, rng=rng(3)).sort("id")
    other = method.rank(POOL.reverse(), target=TARGET.reverse(), using=USING, rng=rng(3)).sort("id")
    assert one["id"].equals(other["id"])
    assert np.allclose(one["score"].to_numpy(), other["score"].to_numpy(), atol=1e-5)
    assert one["score"].is_finite().all()
    single = method.rank(POOL.head(1), target=TARGET, using=USING, rng=rng(3))
    assert single.height == 1


def test_exact_agreement_needs_a_common_answer() -> None:
    with pytest.raises(UsageError, match="word for word"):
        KnnShapley(agreement="exact").rank(POOL, target=TARGET, using=USING, rng=rng())
    labelled = pool_of(("is it good", "Yes."), ("is it bad", "no"), ("is it good now", "no"))
    aim = pool_of(("is it good", "yes"), source="aim")
    found = KnnShapley(agreement="exact", neighbors=1).rank(labelled, target=aim, using=USING, rng=rng())
    assert found["score"].to_numpy().argmax() == 0
    assert found["score"].sum() == pytest.approx(1.0)
    parts = KnnShapley(agreement="exact", neighbors=1).rank_rows(
        labelled.select("id", "source"), lambda: labelled.iter_slices(2), target=aim, using=USING, rng=rng()
    )
    assert parts.equals(found)


def test_knn_shapley_prefers_agreeing_neighbours() -> None:
    found = KnnShapley(neighbors=2).rank(POOL, target=TARGET, using=USING, rng=rng())
    best = POOL["id"].to_list().index(found.sort("score", descending=True)["id"][0])
    assert best in (0, 1, 5)
    assert isinstance(found, pl.DataFrame)
