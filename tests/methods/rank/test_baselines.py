"""Baseline rankings: chance and length."""

import numpy as np
import polars as pl

from methods.rank.balanced_uniform import BalancedUniform
from methods.rank.length import Length
from methods.rank.length_tokens import LengthTokens
from methods.rank.uniform import Uniform
from schemas.method import Using
from tests.methods._engines import Planted
from tests.methods._pools import NOTHING, pool_of, rng

POOL = pool_of(("q", "one two"), ("q", ""), ("q", "写一首诗"), ("q", "a-b c"))


def scores(method, pool=POOL, using=NOTHING, seed=0) -> list[float]:
    ranked = method.rank(pool, target=None, using=using, rng=rng(seed))
    return pool.select("id").join(ranked, on="id", how="left", maintain_order="left")["score"].to_list()


def test_length_counts_words_of_any_script_or_characters():
    assert scores(Length()) == [2, 0, 4, 3]
    assert scores(Length(unit="characters")) == [7, 0, 4, 5]
    assert scores(Length(order="shortest")) == [-2, 0, -4, -3]


def test_length_in_tokens_is_the_engine_s_count():
    assert scores(LengthTokens(), using=Using(_student=Planted())) == [2, 0, 1, 2]


def test_uniform_scores_belong_to_ids_and_seed():
    first = scores(Uniform())
    assert scores(Uniform(), seed=0) == first
    assert scores(Uniform(), seed=1) != first
    assert scores(Uniform(), pool=POOL.reverse()) == first[::-1]
    assert all(0 <= score < 1 for score in first)


def test_uniform_prefers_no_source():
    pool = pool_of(*[("q", str(i)) for i in range(400)], source=["a", "b"] * 200)
    ranked = pool.select("id", "source").join(Uniform().rank(pool, target=None, using=NOTHING, rng=rng()), on="id")
    top = ranked.sort("score", descending=True).head(200)
    assert abs(top.filter(pl.col("source") == "a").height - 100) < 3 * np.sqrt(200 * 0.25)


def test_balanced_uniform_takes_one_of_every_source_in_turn_whatever_the_row_order():
    pool = pool_of(*[("q", str(i)) for i in range(12)]).with_columns(
        pl.Series("source", ["big"] * 8 + ["mid"] * 3 + ["tiny"])
    )
    method = BalancedUniform()
    ranked = method.rank(pool, target=None, using=Using(), rng=rng(3)).sort("score", descending=True)
    order = ranked.join(pool, on="id", how="left", maintain_order="left")["source"].to_list()
    assert sorted(order[:3]) == ["big", "mid", "tiny"]
    assert sorted(order[3:5]) == ["big", "mid"]
    assert order[7:] == ["big"] * 5
    again = method.rank(pool.reverse(), target=None, using=Using(), rng=rng(3)).sort("score", descending=True)
    assert again.equals(ranked)
