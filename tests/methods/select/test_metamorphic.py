"""What must hold of every selector, whatever it does and whatever its budget counts, examples or tokens: order, shards,
nested budgets, ties, copies, missing and constant scores.
"""

from typing import Any

import polars as pl
import pytest

from methods.select._budget import tokens_of
from tests.methods._pools import pool_of, rng
from tests.methods.test_unions import METHODS, using

SELECTORS = sorted(name for name in METHODS if name.startswith("select/"))
each = pytest.mark.parametrize("name", SELECTORS)
POOL = pool_of(*[(f"question {i} of topic {i % 5}", f"answer {i} {'word ' * (i % 7)}") for i in range(30)])
#: Selectors whose smaller choice need not lie within a larger one: they share a budget out anew.
SHARED_OUT = {"select/kmq", "select/iterative-kmeans", "select/quota"}


TOKENS = dict(zip(POOL["id"], tokens_of(POOL).tolist(), strict=True))
LONGEST = int(max(TOKENS.values()))
UNITS = ["examples", "tokens"]
every = pytest.mark.parametrize("unit", UNITS)


def made(name: str, keep: int, unit: str = "examples") -> Any:
    settings = (
        {"max_similarity": 1.0} if name == "select/deita" else {"weights": "rank"} if name == "select/kmq" else {}
    )
    return METHODS[name](**{"keep_examples" if unit == "examples" else "budget_tokens": keep}, **settings)


def kept(
    name: str, keep: int, pool: pl.DataFrame = POOL, scores: list[float | None] | None = None, unit: str = "examples"
) -> set[bytes]:
    values = scores if scores is not None else [float(1 + i * 7 % 11) for i in range(pool.height)]
    ranking = pl.DataFrame({"id": pool["id"], "score": pl.Series(values, dtype=pl.Float64)})
    said = made(name, keep, unit).cut(pool, ranking, using=using(), rng=rng(3))
    assert said.height == pool.height
    return set(said.filter(fate="keep")["id"].to_list())


def worth(unit: str, examples: int) -> int:
    """A budget of about so many examples in this unit."""
    return examples if unit == "examples" else round(examples * sum(TOKENS.values()) / POOL.height)


@each
def test_a_token_budget_is_never_exceeded_and_hardly_wasted(name: str) -> None:
    everything = int(sum(TOKENS.values()))
    assert len(kept(name, everything, unit="tokens")) == len(kept(name, 10 * everything, unit="tokens")) == 30
    for budget in (LONGEST, 150, 300, everything - 1):
        spent = sum(TOKENS[id_] for id_ in kept(name, budget, unit="tokens"))
        assert budget - LONGEST < spent <= budget, "what is left is less than the next example may take"
    assert kept(name, int(min(TOKENS.values())) - 1, unit="tokens") == set()


@each
def test_the_budget_is_met_and_everything_is_kept_where_it_suffices(name: str) -> None:
    for keep in (1, 7, 29):
        assert len(kept(name, keep)) == keep
    assert len(kept(name, 30)) == len(kept(name, 1000)) == 30


@every
@each
def test_a_larger_budget_keeps_what_a_smaller_one_kept(name: str, unit: str) -> None:
    if name not in SHARED_OUT:
        few, some, many = (kept(name, worth(unit, n), unit=unit) for n in (5, 12, 20))
        assert few <= some <= many
        assert len(few) < len(some) < len(many)


@every
@each
def test_the_order_of_rows_and_how_they_lie_in_chunks_decides_nothing(name: str, unit: str) -> None:
    values = {id_: float(1 + i * 7 % 11) for i, id_ in enumerate(POOL["id"])}
    turned = POOL.sample(fraction=1, shuffle=True, seed=4)
    shards = pl.concat([turned[20:], turned[:7], turned[7:20]], rechunk=False)
    for other in (turned, shards):
        found = kept(name, worth(unit, 9), other, [values[id_] for id_ in other["id"]], unit)
        assert found == kept(name, worth(unit, 9), unit=unit)


@every
@each
@pytest.mark.parametrize("scores", [[1.0] * 30, [None] * 30, [None if i % 2 else 1.0 for i in range(30)]])
def test_constant_and_missing_scores_still_fill_the_budget_the_same_way_twice(
    name: str, scores: list[Any], unit: str
) -> None:
    budget = worth(unit, 8)
    found = kept(name, budget, scores=scores, unit=unit)
    assert found == kept(name, budget, POOL.reverse(), scores[::-1], unit)
    if unit == "examples":
        assert len(found) == 8
    else:
        assert budget - LONGEST < sum(TOKENS[id_] for id_ in found) <= budget


@every
@pytest.mark.parametrize("name", ["select/k-center", "select/facility-location"])
def test_copies_of_a_row_do_not_make_a_covering_choice_poorer(name: str, unit: str) -> None:
    copies = pool_of(*[("question 0 of topic 0", "answer 0 ")] * 10)
    fresh = [bytes([200 + i]) * 16 for i in range(10)]
    crowded = pl.concat([POOL, copies.with_columns(pl.Series("id", fresh, dtype=pl.Binary))])

    def texts(ids: set[bytes]) -> int:
        rows = crowded.filter(pl.col("id").is_in(list(ids)))
        return len({messages[1]["content"] for messages in rows["messages"].to_list()})

    found = kept(name, worth(unit, 10), crowded, unit=unit)
    assert texts(found) >= len(found) - 1
    assert len(found) >= 6
