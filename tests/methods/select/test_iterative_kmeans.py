"""Rounds of drawing with feedback: the specification's weights, and a cluster the proxy is bad at that gets more."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from backends.protocols import Reply, Request, ScoreRequest, TokenLogprobs, Turn
from methods.select.iterative_kmeans import IterativeKmeans, reweighted
from schemas.method import Using
from tests.methods._engines import Hashed
from tests.methods._pools import pool_of, rng


class Proxy:
    """Finds its own answers certain and given ones likely, but for questions about ``hard`` things."""

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        return [Reply(text="own words") for _ in requests]

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        hard = [request.completion != "own words" and "hard" in request.messages[0].content for request in requests]
        return [TokenLogprobs((-9.0 if one else -0.1,)) for one in hard]


class Tuner:
    def __init__(self) -> None:
        self.lessons: list[int] = []

    def tuned(self, conversations: Sequence[Sequence[Turn]], **_: object) -> Proxy:
        self.lessons.append(len(conversations))
        return Proxy()


def test_weights_of_the_specification_and_of_clusters_nobody_measured() -> None:
    first = reweighted(np.ones(3), np.array([0.2, 0.5, 0.3]), 0.01)
    assert first == pytest.approx([0.2, 0.5, 0.3])
    assert reweighted(first, np.array([0.2, 0.5, 0.3]), 0.01) == pytest.approx([0.105, 0.658, 0.237], abs=1e-3)
    assert reweighted(np.ones(2), np.array([-3.0, np.nan]), 0.1) == pytest.approx([0.5, 0.5]), (
        "negative feedback is floored"
    )


def test_the_cluster_that_the_proxy_is_bad_at_gets_more_and_no_row_twice() -> None:
    pool = pool_of(*[("hard sums", f"h{i}") for i in range(60)], *[("easy talk", f"e{i}") for i in range(60)])
    tuner = Tuner()
    method = IterativeKmeans(keep_examples=40, clusters=2, rounds=4, on="prompt")
    said = method.cut(pool, pl.DataFrame(), using=Using(_embed=Hashed(), _tune=tuner), rng=rng(1))
    kept = pool.with_columns(said["fate"]).filter(fate="keep")
    kinds = Counter(messages[0]["content"].split()[0] for messages in kept["messages"].to_list())
    assert kept.height == 40
    assert kinds["hard"] > 25
    assert tuner.lessons == [10, 20, 30], "each round tunes on all that was drawn so far"
    assert sorted(set(said["score"].drop_nulls().to_list())) == [-3.0, -2.0, -1.0, 0.0]


def test_row_order_decides_nothing_and_a_budget_beyond_the_pool_keeps_it() -> None:
    pool = pool_of(*[("hard sums" if i % 2 else "easy talk", f"{i}") for i in range(30)])
    using = Using(_embed=Hashed(), _tune=Tuner())
    method = IterativeKmeans(keep_examples=9, clusters=2, on="prompt")
    one, other = (method.cut(p, pl.DataFrame(), using=using, rng=rng(2)).sort("id") for p in (pool, pool.reverse()))
    assert one.equals(other)
    everything = IterativeKmeans(keep_examples=99).cut(pool, pl.DataFrame(), using=using, rng=rng(2))
    assert (everything["fate"] == "keep").all()
