"""Selections that look at the set: greedy against enumeration, one at a time against blocks, budgets and ties."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from methods.points.greedy import Graph, _stable_order, apart, facility_location, k_center, nearest_graph
from methods.select.deita import Deita
from methods.select.facility_location import FacilityLocation
from methods.select.k_center import KCenter
from methods.select.kmq import KMQ
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods._engines import Hashed
from tests.methods._pools import pool_of, rng

USING = Using(_embed=Hashed())


def unit(n: int, dim: int = 5, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def radius(rows: np.ndarray, kept: tuple[int, ...] | np.ndarray) -> float:
    distance = np.linalg.norm(rows[:, None] - rows[None, list(kept)], axis=2)
    return float(distance.min(axis=1).max())


def test_k_center_is_within_twice_the_best_of_all_sets() -> None:
    rows = unit(14)
    kept, distance = k_center(rows, 4)
    best = min(radius(rows, group) for group in combinations(range(14), 4))
    assert radius(rows, kept) <= 2 * best
    assert distance.max() == pytest.approx(radius(rows, kept), abs=1e-3)
    assert len(set(kept.tolist())) == 4
    assert k_center(rows, 3)[0].tolist() == kept[:3].tolist(), "a smaller budget is a beginning of a larger one"


def test_facility_location_is_near_the_best_of_all_sets_and_lazy_is_greedy() -> None:
    rows = unit(14)
    graph = nearest_graph(rows, 14)
    like = np.clip(rows @ rows.T, 0, 1)

    def worth(group) -> float:
        return float(like[:, list(group)].max(axis=1).sum())

    kept, gain = facility_location(graph, 4)
    best = max(worth(group) for group in combinations(range(14), 4))
    assert worth(kept) >= (1 - 1 / np.e) * best
    assert gain.sum() == pytest.approx(worth(kept), abs=1e-4)
    assert (np.diff(gain) <= 1e-6).all(), "gains only fall"
    plain: list[int] = []
    for _ in range(4):
        plain.append(max(range(14), key=lambda i: (worth([*plain, i]) if i not in plain else -1.0, -i)))
    assert kept.tolist() == plain


def test_the_graph_holds_each_rows_true_neighbours_itself_first() -> None:
    rows = unit(50)
    graph = nearest_graph(rows, 5)
    near = rows @ rows.T
    np.fill_diagonal(near, 2)
    assert (graph.other[:, 0] == np.arange(50)).all()
    for i in range(50):
        assert set(graph.other[i].tolist()) == set(np.argsort(-near[i])[:5].tolist())
    assert isinstance(graph, Graph)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.floats(0.0, 0.99), st.integers(0, 1000))
def test_kept_rows_are_apart_and_blocks_decide_as_one_row_at_a_time(n: int, most: float, seed: int) -> None:
    rows = unit(n, dim=3, seed=seed)
    kept, nearest, whom = apart(rows, most)
    one: list[int] = []
    for i in range(n):
        if all(float(rows[i] @ rows[j]) <= most for j in one):
            one.append(i)
    assert kept.tolist() == one
    for i in set(range(n)) - set(one):
        assert nearest[i] > most
        assert whom[i] < i


POOL = pool_of(
    *[(f"question {i % 4} about topic {i % 3}", f"answer number {i} of {'many words ' * (i % 5)}") for i in range(24)]
)
RANKING = pl.DataFrame({"id": POOL["id"], "score": [float(1 + i % 7) for i in range(24)]})
EVERY = [KCenter, FacilityLocation, Deita, KMQ]


@pytest.mark.parametrize("kind", EVERY)
def test_budgets_hold_and_row_order_decides_nothing(kind) -> None:
    settings_ = {"max_similarity": 1.0} if kind is Deita else {}
    for keep in (1, 5, 24, 100):
        method = kind(keep_examples=keep, **settings_)
        said = method.cut(POOL, RANKING, using=USING, rng=rng(2))
        assert (said["fate"] == "keep").sum() == min(keep, 24)
        turned = method.cut(POOL.reverse(), RANKING.sample(fraction=1, shuffle=True, seed=1), using=USING, rng=rng(2))
        assert set(said.filter(fate="keep")["id"]) == set(turned.filter(fate="keep")["id"])
    half = kind(keep_fraction=0.5, **settings_).cut(POOL, RANKING, using=USING, rng=rng(2))
    assert (half["fate"] == "keep").sum() == 12
    single = kind(keep_examples=3, **settings_).cut(POOL.head(1), RANKING.head(1), using=USING, rng=rng(2))
    assert single["fate"].to_list() == ["keep"]


@pytest.mark.parametrize("kind", [KCenter, FacilityLocation, Deita])
def test_a_larger_budget_keeps_what_a_smaller_one_kept(kind) -> None:
    small, large = (
        set(kind(keep_examples=keep).cut(POOL, RANKING, using=USING, rng=rng()).filter(fate="keep")["id"])
        for keep in (4, 9)
    )
    assert small <= large


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(
    "budget", [{}, {"keep_examples": 0}, {"keep_examples": -1}, {"keep_examples": 2, "keep_fraction": 0.5}]
)
def test_a_budget_that_is_none_is_a_mistake_of_the_recipe(kind, budget) -> None:
    with pytest.raises(ValidationError):
        kind(**budget)


@pytest.mark.parametrize("kind", [KCenter, FacilityLocation, KMQ])
def test_identical_embeddings_still_fill_the_budget(kind) -> None:
    same = pool_of(*[("same", "same")] * 6)
    ranking = pl.DataFrame({"id": same["id"], "score": [1.0] * 6})
    assert (kind(keep_examples=3).cut(same, ranking, using=USING, rng=rng())["fate"] == "keep").sum() == 3


def test_deita_passes_over_near_copies_and_names_the_better_one() -> None:
    pool = pool_of(("a", "one two three"), ("a", "one two three"), ("b", "quite another text"))
    ranking = pl.DataFrame({"id": pool["id"], "score": [1.0, 2.0, 0.5]})
    said = Deita(keep_examples=2).cut(pool, ranking, using=USING, rng=rng())
    assert said["fate"].to_list() == ["reject", "keep", "keep"]
    assert said["reason"][0] == "too-similar"
    assert pool["id"][1].hex() in said["evidence"][0]


def test_kmq_gives_clusters_their_share_and_needs_positive_quality() -> None:
    groups = [("alpha", 10), ("beta", 30), ("gamma", 60)]
    pool = pool_of(*[(word, word) for word, count in groups for _ in range(count)])
    ranking = pl.DataFrame({"id": pool["id"], "score": [1.0] * 100})
    said = KMQ(keep_examples=50, clusters=3).cut(pool, ranking, using=USING, rng=rng(1))
    kept = pool.with_columns(said["fate"]).filter(fate="keep")
    names = kept.select(pl.col("messages").list.first().struct.field("content").alias("name"))["name"]
    assert dict(names.value_counts().iter_rows()) == {"alpha": 5, "beta": 15, "gamma": 30}
    negative = ranking.with_columns(score=pl.lit(-1.0))
    with pytest.raises(UsageError, match="weights: rank"):
        KMQ(keep_examples=5).cut(pool, negative, using=USING, rng=rng())
    assert (
        KMQ(keep_examples=5, weights="rank").cut(pool, negative, using=USING, rng=rng())["fate"] == "keep"
    ).sum() == 5


def test_kmq_draws_by_quality() -> None:
    pool = pool_of(*[("same", f"{i}") for i in range(200)])
    good = [i % 2 == 0 for i in range(200)]
    ranking = pl.DataFrame({"id": pool["id"], "score": [9.0 if g else 1.0 for g in good]})
    said = KMQ(keep_examples=40, clusters=1, on="prompt").cut(pool, ranking, using=USING, rng=rng(4))
    share = sum(g for g, fate in zip(good, said["fate"], strict=True) if fate == "keep") / 40
    assert 0.75 < share < 1.0, "about nine of ten"


def test_centers_guessed_ahead_are_those_of_one_step_at_a_time() -> None:
    rows = unit(900, 8, seed=5)
    nearest, at, plain = np.full(len(rows), -np.inf), int((rows @ rows.mean(axis=0)).argmax()), []
    for _ in range(300):
        plain.append(at)
        nearest = np.maximum(nearest, rows @ rows[at])
        nearest[at] = np.inf
        at = int(nearest.argmin())
    assert k_center(rows, 300)[0].tolist() == plain


@pytest.mark.parametrize("clumps", [1, 40])
def test_neighbours_by_a_guessed_threshold_are_the_nearest(clumps: int) -> None:
    rows = unit(4500, 6, seed=6)
    rows = rows[np.random.default_rng(7).integers(clumps if clumps > 1 else 4500, size=4500)] if clumps > 1 else rows
    graph = nearest_graph(rows, 5)
    for i in (0, 17, 2250, 4499):
        like = np.clip(rows @ rows[i], 0, 1)
        assert graph.other[i, 0] == i
        assert np.sort(graph.similarity[i, 1:]) == pytest.approx(np.sort(np.delete(like, i))[-4:], abs=1e-6)


def test_of_a_token_budget_each_cluster_gets_its_share_of_the_pools_tokens() -> None:
    # 40 short rows of 10 tokens, 10 long ones of 40: half of the tokens each, so half of the budget each
    pool = pool_of(*[("short", "x" * 3)] * 40, *[("loooong " * 4, "y" * 96)] * 10)
    ranking = pl.DataFrame({"id": pool["id"], "score": [1.0] * 50})
    said = KMQ(budget_tokens=400, clusters=2).cut(pool, ranking, using=USING, rng=rng(1))
    kept = [fate == "keep" for fate in said["fate"]]
    assert (sum(kept[:40]), sum(kept[40:])) == (20, 5)


def test_centers_stop_at_the_first_that_does_not_fit_and_all_greedy_sets_are_beginnings() -> None:
    rows = unit(60)
    costs = np.random.default_rng(3).integers(5, 50, 60).astype(float)
    graph = nearest_graph(rows, 8)
    whole = {
        "centers": k_center(rows, 60)[0], "facility": facility_location(graph, 60)[0], "apart": apart(rows, 0.9)[0]
    }  # fmt: skip
    for budget in (4, 100, 333, 10_000):
        found = {
            "centers": k_center(rows, budget, costs=costs)[0],
            "facility": facility_location(graph, budget, costs)[0],
            "apart": apart(rows, 0.9, budget, costs)[0],
        }
        for name, kept in found.items():
            fits = int((np.cumsum(costs[whole[name]]) <= budget).sum())
            assert kept.tolist() == whole[name][:fits].tolist(), name


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**31 - 1), max_size=200), st.integers(1, 2**31 - 1))
def test_the_order_by_halves_is_the_stable_order(values: list[int], most: int) -> None:
    some = np.array([value % most for value in values], dtype=np.int32)
    assert _stable_order(some).tolist() == np.argsort(some, kind="stable").tolist()
