"""Methods look at no column that they do not say they read, and rank in batches as they rank a whole pool."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.streamed import EmbeddedCut, EmbeddedRank, StreamedRank
from schemas.examples import EXAMPLES
from schemas.method import TOKENS, JudgeMethod
from tasks.columns import columns_for
from tasks.judge import added
from tests.methods._pools import awkward_pool, rng, ten_examples
from tests.methods.test_unions import METHODS, applied, made, plain, quick, ranking_of, using

#: Settings under which a method reads something else than with its defaults.
ALSO: dict[str, list[dict[str, Any]]] = {
    "select/top": [{"budget_tokens": 90}, {"keep_fraction": 0.5}],
    "select/quota": [{"budget_tokens": 90}, {"quotas": {"a": 20, "b": 40}, "quota_unit": "tokens"}, {"quotas": {"a": 2}}],
    "select/k-center": [{"budget_tokens": 90}],
    "select/deita": [{"budget_tokens": 90}],
    "select/iterative-kmeans": [{"budget_tokens": 90, "rounds": 2}],
    "select/kmq": [{"budget_tokens": 90, "weights": "rank"}],
}  # fmt: skip

OF_POOLS = [name for name in METHODS if not name.startswith("generate/")]
CASES = [(name, None) for name in OF_POOLS] + [(name, fields) for name, kinds in ALSO.items() for fields in kinds]


def of(name: str, fields: dict[str, Any] | None) -> Any:
    return made(name) if fields is None else METHODS[name](**fields)


def only(pool: pl.DataFrame, method: Any) -> pl.DataFrame:
    """The pool as a step loads it for the method."""
    columns = columns_for(method)
    tokens = pl.Series(TOKENS, [8 + 3 * row for row in range(pool.height)], dtype=pl.Int64)
    return pool.with_columns(tokens).select(columns) if TOKENS in columns else pool.select(columns)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_a_method_says_the_same_of_a_pool_that_has_only_what_it_reads(name: str, fields: dict[str, Any] | None):
    method = quick(of(name, fields))
    assert set(method.reads()) <= {*EXAMPLES, TOKENS}
    pool = ten_examples() if name.startswith("mix/") else awkward_pool()
    narrow = only(pool, method)
    full = pool.with_columns(narrow[TOKENS]) if TOKENS in narrow.columns else pool
    said = applied(method, narrow)
    assert plain(said) == plain(applied(method, full))
    if isinstance(method, JudgeMethod):
        assert method.audit(narrow, said) == method.audit(pool, said)


def test_a_cut_a_baseline_and_a_plain_mixture_read_no_text():
    for name in ("select/top", "select/quota", "rank/uniform", "rank/balanced-uniform", "mix/temperature", "mix/fixed"):
        assert set(columns_for(made(name))) == {"id", "source"}, name
    assert set(columns_for(METHODS["select/top"](budget_tokens=5))) == {"id", "source", TOKENS}


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if issubclass(kind, StreamedRank)])
@settings(deadline=None, max_examples=6)
@given(st.integers(1, awkward_pool().height))
def test_a_ranking_of_batches_is_the_ranking_of_the_pool(name: str, size: int):
    method, pool = made(name), awkward_pool()
    told: list[tuple[int, int]] = []
    tools = using()
    object.__setattr__(tools, "progress", lambda done, total, note="": told.append((done, total)))
    said = method.rank_batches(
        lambda: pool.select(columns_for(method)).iter_slices(size), pool.height, target=ten_examples().head(3),
        using=tools, rng=rng(5),
    )  # fmt: skip
    assert plain(said) == plain(applied(method, pool))
    assert said["id"].to_list() == pool["id"].to_list()
    assert all(0 <= done <= total == pool.height for done, total in told) or size >= pool.height


@pytest.mark.parametrize(
    ("name", "fields"), [(n, f) for n, f in CASES if issubclass(METHODS[n], EmbeddedRank | EmbeddedCut)]
)
@settings(deadline=None, max_examples=6)
@given(st.integers(1, awkward_pool().height))
def test_a_method_that_embeds_says_the_same_of_rows_without_texts_and_texts_in_batches(
    name: str, fields: dict[str, Any] | None, size: int
):
    method, pool = of(name, fields), awkward_pool()
    narrow = only(pool, method)
    rows, texts = narrow.drop("messages"), narrow.select("messages")
    assert set(rows.columns) <= {"id", "source", TOKENS}
    if isinstance(method, EmbeddedRank):
        said = method.rank_rows(
            rows, lambda: texts.iter_slices(size), target=ten_examples().head(3), using=using(), rng=rng(5)
        )
    else:
        said = method.cut_rows(rows, lambda: texts.iter_slices(size), ranking_of(rows), using=using(), rng=rng(5))
    assert said.equals(applied(method, narrow))


def test_rankings_and_cuts_by_vectors_read_texts_in_batches():
    of_vectors = {name for name, kind in METHODS.items() if issubclass(kind, EmbeddedRank | EmbeddedCut)}
    assert of_vectors == {
        "rank/got-d", "rank/knn-shapley", "rank/rds-plus", "rank/tsds", "select/deita", "select/facility-location",
        "select/iterative-kmeans", "select/k-center", "select/kmq",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", [n for n, k in METHODS.items() if issubclass(k, JudgeMethod) and k.per_example and k.audit is not JudgeMethod.audit]
)  # fmt: skip
@settings(deadline=None, max_examples=6)
@given(st.integers(1, awkward_pool().height - 1))
def test_audits_of_parts_add_up_to_that_of_the_whole(name: str, cut: int):
    method, pool = made(name), awkward_pool()
    parts = [pool[:cut], pool[cut:]]
    tables = [method.audit(part, applied(method, part)) for part in parts]
    assert added(tables) == added([method.audit(pool, applied(method, pool))])
