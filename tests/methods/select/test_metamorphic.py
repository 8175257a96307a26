"""What must hold of every selector, whatever it does: order, budgets, ties, copies, missing and constant scores."""

from typing import Any

import polars as pl
import pytest

from tests.methods._pools import pool_of, rng
from tests.methods.test_unions import METHODS, using

SELECTORS = sorted(name for name in METHODS if name.startswith("select/"))
each = pytest.mark.parametrize("name", SELECTORS)
POOL = pool_of(*[(f"question {i} of topic {i % 5}", f"answer {i} {'word ' * (i % 7)}") for i in range(30)])
#: Selectors whose smaller choice need not lie within a larger one: they share a budget out anew.
SHARED_OUT = {"select/kmq", "select/iterative-kmeans", "select/quota"}


def made(name: str, keep: int) -> Any:
    settings = (
        {"max_similarity": 1.0} if name == "select/deita" else {"weights": "rank"} if name == "select/kmq" else {}
    )
    return METHODS[name](keep_examples=keep, **settings)


def kept(name: str, keep: int, pool: pl.DataFrame = POOL, scores: list[float | None] | None = None) -> set[bytes]:
    values = scores if scores is not None else [float(1 + i * 7 % 11) for i in range(pool.height)]
    ranking = pl.DataFrame({"id": pool["id"], "score": pl.Series(values, dtype=pl.Float64)})
    said = made(name, keep).cut(pool, ranking, using=using(), rng=rng(3))
    assert said.height == pool.height
    return set(said.filter(fate="keep")["id"].to_list())


@each
def test_the_budget_is_met_and_everything_is_kept_where_it_suffices(name: str) -> None:
    for keep in (1, 7, 29):
        assert len(kept(name, keep)) == keep
    assert len(kept(name, 30)) == len(kept(name, 1000)) == 30


@each
def test_a_larger_budget_keeps_what_a_smaller_one_kept(name: str) -> None:
    if name not in SHARED_OUT:
        assert kept(name, 5) <= kept(name, 12) <= kept(name, 20)


@each
def test_the_order_of_rows_decides_nothing(name: str) -> None:
    values = {id_: float(1 + i * 7 % 11) for i, id_ in enumerate(POOL["id"])}
    turned = POOL.sample(fraction=1, shuffle=True, seed=4)
    assert kept(name, 9) == kept(name, 9, turned, [values[id_] for id_ in turned["id"]])


@each
@pytest.mark.parametrize("scores", [[1.0] * 30, [None] * 30, [None if i % 2 else 1.0 for i in range(30)]])
def test_constant_and_missing_scores_still_fill_the_budget_the_same_way_twice(name: str, scores: list[Any]) -> None:
    assert len(kept(name, 8, scores=scores)) == 8
    assert kept(name, 8, scores=scores) == kept(name, 8, POOL.reverse(), scores[::-1])


@pytest.mark.parametrize("name", ["select/k-center", "select/facility-location"])
def test_copies_of_a_row_do_not_make_a_covering_choice_poorer(name: str) -> None:
    copies = pool_of(*[("question 0 of topic 0", "answer 0 ")] * 10)
    fresh = [bytes([200 + i]) * 16 for i in range(10)]
    crowded = pl.concat([POOL, copies.with_columns(pl.Series("id", fresh, dtype=pl.Binary))])

    def texts(ids: set[bytes]) -> int:
        rows = crowded.filter(pl.col("id").is_in(list(ids)))
        return len({messages[1]["content"] for messages in rows["messages"].to_list()})

    assert texts(kept(name, 10, crowded)) >= 9
