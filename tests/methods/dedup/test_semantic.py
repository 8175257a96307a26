"""Semantic dedup: the same decisions as brute force, whatever the order; chains, clusters, scopes, hostile text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from backends.embed.hashing import Hashing
from methods.dedup import _cosines
from methods.dedup._cosines import Vectors, any_earlier, cosine, first_come
from methods.dedup.semantic import Semantic
from schemas.examples import VERDICTS, conform
from schemas.method import Using
from tests.methods._pools import awkward_pool, example_id, pool_of, reasons, rng


class Angles:
    """Texts that are numbers become unit vectors at that many degrees."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "angles"}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        angle = np.deg2rad([float(text) for text in texts])
        return np.stack((np.cos(angle), np.sin(angle)), axis=1).astype(np.float32)


def judge(pool: pl.DataFrame, embedder: Any = None, seed: int = 0, **fields) -> pl.DataFrame:
    using = Using(_embed=embedder or Angles())
    return conform(Semantic(**fields).judge(pool, using=using, rng=rng(seed)), VERDICTS, "semantic")


def in_order(*texts: Any, **columns: Any) -> tuple[pl.DataFrame, list[int]]:
    """A pool in which the texts stand by id in this order, and the numbers of their examples."""
    numbers = sorted(range(len(texts)), key=example_id)
    said = [""] * len(texts)
    for number, text in zip(numbers, texts, strict=True):
        said[number] = str(text)
    return pool_of(*(("q", text) for text in said), **columns), numbers


def fates(pool: pl.DataFrame, numbers: list[int], **fields) -> list[bool]:
    """Whether each stays, in the order of ids."""
    said = reasons(judge(pool, on="answer", **fields), pool)
    return [said[number] is None for number in numbers]


def test_a_chain_of_degrees_breaks_or_collapses():
    """0, 10, 20 degrees, neighbours alike: cos 10 = .985, cos 20 = .940."""
    pool, numbers = in_order(0, 10, 20)
    assert fates(pool, numbers, threshold=0.98) == [True, False, True]
    assert fates(pool, numbers, threshold=0.98, chains="collapse") == [True, False, False]
    last = judge(pool, on="answer", threshold=0.98, chains="collapse").row(
        by_predicate=pl.col("id") == example_id(numbers[2]), named=True
    )
    assert json.loads(last["evidence"]) == {
        "on": "answer", "repeats": example_id(numbers[0]).hex(), "similarity": round(float(np.cos(np.deg2rad(20))), 6),
        "via": example_id(numbers[1]).hex(), "via_similarity": round(float(np.cos(np.deg2rad(10))), 6),
    }  # fmt: skip
    assert last["score"] == round(float(np.cos(np.deg2rad(10))), 6)


def test_a_repeat_names_the_closest_that_stays_and_the_cosine():
    pool, numbers = in_order(0, 12, 9)
    said = judge(pool, on="answer", threshold=0.98)  # 9 is alike with both; 12 and 0 are not (cos 12 = .978)
    row = said.row(by_predicate=pl.col("id") == example_id(numbers[2]), named=True)
    assert row["reason"] == "semantic-duplicate"
    near = round(float(np.cos(np.deg2rad(3))), 6)
    assert json.loads(row["evidence"]) == {"on": "answer", "repeats": example_id(numbers[1]).hex(), "similarity": near}
    assert row["score"] == near
    assert said["fate"].to_list().count("keep") == 2


def test_exactly_at_the_threshold_is_a_repeat_also_at_one():
    pool, numbers = in_order(0, 60)
    assert fates(pool, numbers, threshold=0.5) == [True, False]
    assert fates(pool, numbers, threshold=0.500001) == [True, True]
    pool, numbers = in_order("10", "10.0")  # equal vectors of different texts
    assert fates(pool, numbers, threshold=1.0) == [True, False]


def cloud(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors in groups of widely different density, some of them equal."""
    chance = np.random.default_rng(seed)
    middle = chance.normal(size=(max(1, count // 12), dim)) + 1.0
    rows = middle[chance.integers(len(middle), size=count)]
    rows = rows + chance.choice([0.0, 0.05, 0.3, 1.0], size=(count, 1)) * chance.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def brute(rows: np.ndarray, threshold: float, collapse: bool) -> tuple[list[int], list[float]]:
    """The rules as loops over full cosines."""
    wide = rows.astype(np.float64)
    home, near = list(range(len(rows))), [1.0] * len(rows)
    for i in range(len(rows)):
        cosines = np.round((wide[:i] * wide[i]).sum(axis=1), 6)
        alike = [j for j in range(i) if cosines[j] >= threshold and (collapse or home[j] == j)]
        if alike:
            home[i] = alike[0] if collapse else max(alike, key=lambda j: (cosines[j], -j))
            near[i] = cosines[home[i]]
    return home, near


@pytest.mark.parametrize("collapse", [False, True], ids=["break", "collapse"])
@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.99])
@pytest.mark.parametrize("dim", [3, 80])
def test_decisions_homes_and_cosines_are_those_of_brute_force(
    collapse: bool, threshold: float, dim: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_cosines, "_BLOCK", 64)
    rows = cloud(700, dim, seed=int(threshold * 100) + dim)
    heard: list[int] = []
    found = (any_earlier if collapse else first_come)(Vectors(rows, threshold), heard.append)
    home, near = brute(rows, threshold, collapse)
    assert found.home.tolist() == home
    assert found.cosine.tolist() == near
    assert 100 < sum(h != i for i, h in enumerate(home)) < 700
    assert heard[-1] == 700


def test_the_bound_turns_most_pairs_away_and_no_true_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_cosines, "_BLOCK", 64)
    rows = cloud(600, 120, seed=1)
    vectors = Vectors(rows, 0.9)
    assert vectors.bound.shape[1] < 120
    bound, full = vectors.bound @ vectors.bound.T, rows @ rows.T
    assert (bound >= full - 1e-5).all()
    assert (bound >= 0.9).mean() < 2 * (full >= 0.9).mean() + 0.05


def test_cosines_are_the_same_from_either_side():
    rows = cloud(50, 33, seed=2)
    assert cosine(rows[:25], rows[25:]).tolist() == cosine(rows[25:], rows[:25]).tolist()


@pytest.mark.parametrize("fields", [{}, {"chains": "collapse"}, {"clusters": 3}, {"keep": "outermost"},
                                    {"scope": "within-source"}, {"scope": "across-sources"}, {"keep": "longest"}])  # fmt: skip
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_order_does_not_matter_and_a_second_pass_changes_nothing(fields, data):
    angles = data.draw(st.lists(st.integers(0, 90), min_size=1, max_size=14))
    pool = pool_of(*(("q", str(angle)) for angle in angles), source=[f"s{i % 2}" for i in range(len(angles))])
    said = judge(pool, on="answer", threshold=0.98, **fields)
    order = data.draw(st.permutations(range(len(angles))))
    assert judge(pool[order], on="answer", threshold=0.98, **fields).sort("id").equals(said.sort("id"))
    kept = {i.hex() for i in said.filter(fate="keep")["id"]}
    assert {json.loads(e)["repeats"] for e in said["evidence"].drop_nulls()} <= kept
    if "clusters" not in fields and fields.get("keep") != "outermost":  # centroids move with the pool
        survivors = pool.join(said.filter(fate="keep").select("id"), on="id", how="semi")
        assert judge(survivors, on="answer", threshold=0.98, **fields)["reason"].null_count() == survivors.height


@given(st.lists(st.integers(0, 180), min_size=1, max_size=12), st.floats(0.5, 0.99), st.floats(0, 0.4))
@settings(deadline=None, max_examples=30)
def test_collapsing_a_lower_threshold_drops_a_superset(angles: list[int], threshold: float, less: float):
    pool, numbers = in_order(*angles)
    strict = fates(pool, numbers, threshold=threshold, chains="collapse")
    loose = fates(pool, numbers, threshold=threshold - less, chains="collapse")
    assert all(not stays or was for stays, was in zip(loose, strict, strict=True))


def test_clusters_miss_what_lies_across_their_border_and_nothing_else():
    angles = [*range(0, 20, 2), *range(80, 100, 2)]
    pool, numbers = in_order(*angles)
    assert fates(pool, numbers, threshold=0.99, clusters=2) == fates(pool, numbers, threshold=0.99)
    many = fates(pool, numbers, threshold=0.99, clusters=20)
    assert all(many)  # each alone in its cluster


def test_the_outermost_stays():
    """0, 4, 8, 50 degrees: the mean lies near 15, so that 0 is farther from it than 4 and 8."""
    pool, numbers = in_order(8, 4, 0, 50)
    assert fates(pool, numbers, threshold=0.98, keep="outermost") == [False, False, True, True]
    assert fates(pool, numbers, threshold=0.98) == [True, False, False, True]


def test_scope_says_who_may_repeat_whom():
    pool = pool_of(*[("q", "1")] * 2, *[("q", "2")] * 3, source=["a", "b", "a", "b", "b"])
    within = judge(pool, on="answer", threshold=0.99, scope="within-source")
    assert sorted(pool.join(within.filter(fate="keep"), on="id")["source"]) == ["a", "b"]
    across = judge(
        pool, on="answer", threshold=0.99, scope="across-sources", keep="best-source", source_priority=("a",)
    )
    assert reasons(across, pool) == [None, *["semantic-duplicate"], None, *["semantic-duplicate"] * 2]


def test_equal_texts_are_embedded_once_and_blank_ones_never():
    embedder = Angles()
    pool = pool_of(*[("q", "1")] * 500, ("q", ""), ("q", " \u200b\n"), ("q", "\u2066\ufe0f"), ("q", "90"))
    said = judge(pool, embedder, on="answer")
    assert sorted(embedder.asked) == ["1", "90"]
    assert said["fate"].to_list().count("reject") == 499
    assert set(said["score"].drop_nulls()) == {1.0}


@pytest.mark.parametrize("on", ["prompt", "answer", "both"])
def test_awkward_text_is_judged(on: str):
    pool = awkward_pool()
    said = judge(pool, Hashing().open(), on=on, threshold=0.9)
    assert sorted(said["id"]) == sorted(pool["id"])
    assert 12 not in (out := [i for i, r in enumerate(reasons(said, pool)) if r]) or 13 not in out
    assert len({12, 13} & set(out)) == 1
    assert judge(pool_of().clear(), Hashing().open()).height == 0


def test_vectors_in_a_file_and_in_pieces_decide_the_same(monkeypatch: pytest.MonkeyPatch):
    texts = [str(round(a, 3)) for a in np.random.default_rng(0).uniform(0, 60, 300)]
    pool, _ = in_order(*texts)
    whole = judge(pool, on="answer", threshold=0.9999, clusters=4)
    monkeypatch.setattr("methods.spill.IN_MEMORY", 0)
    monkeypatch.setattr("methods.points.vectors._TEXTS", 7)
    monkeypatch.setattr(_cosines, "_BLOCK", 16)
    assert judge(pool, on="answer", threshold=0.9999, clusters=4).equals(whole)


def test_chains_that_collapse_do_not_go_across_sources():
    with pytest.raises(ValidationError, match="leave one of them out"):
        Semantic(chains="collapse", scope="across-sources")
