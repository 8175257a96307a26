"""Laws that every method of every folder keeps, and a golden digest of what each one does to ten examples.

When a digest moves without its class's ``version``, datasets made before and after would pass for the same. Raise the
version, then record: ``PROVENDER_GOLDEN=write pytest tests/methods/test_unions.py``.
"""

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from backends.nli.embedding import EmbeddingNLIEngine
from backends.sandbox.auto import AutoSandbox
from backends.tune.simulated import SimulatedTuner
from methods.decontaminate import AnyDecontaminate
from methods.dedup import AnyDedup
from methods.filter import AnyFilter
from methods.generate import AnyGenerate
from methods.mix import AnyMix
from methods.rank import AnyRank
from methods.select import AnySelect
from schemas.examples import CREATED, FATES, REFUSED, VERDICTS, conform
from schemas.identity import canonical_json, fingerprint
from schemas.method import Blend, Generated, Method, Using
from tests.methods._engines import Hashed, Talkative, TunesIntoTalk
from tests.methods._pools import awkward_pool, pool_of, rng, ten_examples

GOLDEN = Path(__file__).parent / "golden.json"
UNIONS = {
    "generate": AnyGenerate, "filter": AnyFilter, "dedup": AnyDedup, "decontaminate": AnyDecontaminate, "rank": AnyRank,
    "select": AnySelect, "mix": AnyMix,
}  # fmt: skip

#: Fields of methods that have no default for something; a new method that needs one is added here.
FIELDS: dict[str, dict[str, Any]] = {
    "select/top": {"keep_examples": 4},
    "select/quota": {"keep_examples": 5},
    "mix/regmix": {"regression": "linear", "simulated": 1000},
    "mix/fixed": {"weights": {"a": 1, "b": 3}},
    "generate/self-instruct": {"examples": 3, "max_candidates": 40},
    "generate/alpaca": {"examples": 3, "max_candidates": 40},
    "generate/rejection-sampling": {"samples": 2},
    "generate/best-of-n": {"samples": 2, "scorer": "agreement"},
    "generate/self-rehearsal": {"check": "answer"},
    "generate/evol-instruct": {"rounds": 2, "judge_gain": False},
    "generate/divpo": {"samples": 3, "reward": "schema", "reward_schema": {"type": "object"}},
    "generate/rationales": {"label_weight": 1},
    "generate/back-translation": {"min_entailment": None, "compare": False},
    "filter/clear": {"samples": 2},
    "filter/knowledge": {"prompts": 2, "samples": 2, "shots": 2},
    "select/iterative-kmeans": {"keep_examples": 4, "rounds": 2},
    "select/k-center": {"keep_examples": 4},
    "select/facility-location": {"keep_examples": 4},
    "select/deita": {"keep_examples": 4, "max_similarity": 0.95},
    "select/kmq": {"keep_examples": 4, "weights": "rank"},
    "decontaminate/temporal": {"released": {"quiz": "2024-01-31"}},
    "generate/self-guide": {"samples": 2, "min_votes": 1, "min_frequency": 0, "examples": 2, "max_candidates": 40},
    "generate/leti": {"samples": 2},
    "generate/self-code-align": {"samples": 2},
    "filter/clear-correct": {"samples": 2, "verdict_samples": 1, "min_verdict_confidence": 0.1},
}


def members() -> dict[str, type[Method]]:
    """Every method by ``stage/tag``."""
    found: dict[str, type[Method]] = {}
    for stage, union in UNIONS.items():
        kinds = get_args(get_args(union)[0]) or (get_args(union)[0],)
        for kind in kinds:
            found[f"{stage}/{get_args(kind.model_fields['method'].annotation)[0]}"] = kind
    return found


METHODS = members()
JUDGES = [name for name in METHODS if name.split("/")[0] in ("filter", "dedup", "decontaminate", "select")]
each = pytest.mark.parametrize("name", METHODS)
each_judge = pytest.mark.parametrize("name", JUDGES)


def made(name: str) -> Any:
    return METHODS[name](**FIELDS.get(name, {}))


def quick(method: Any) -> Any:
    """A mixture with few refits for its intervals and one run a check: the digest has the defaults, a law needs no more."""
    few = {"bootstraps": 2, "check_seeds": 1}
    return method.model_copy(update={name: few[name] for name in few.keys() & type(method).model_fields.keys()})


def using() -> Using:
    nli = EmbeddingNLIEngine(Hashed())
    return Using(
        _llm=Talkative(),
        _embed=Hashed(),
        _judge=Talkative(),
        _student=Talkative(),
        _nli=nli,
        _tune=TunesIntoTalk(),
        _sandbox=box(),
    )


@cache
def box() -> Any:
    return AutoSandbox(workers=1).open()


def examples_for(name: str) -> pl.DataFrame:
    """Ten examples; for methods that work on code, with a program and its tests beside them."""
    if name not in ("generate/leti", "generate/lintseq", "generate/self-code-align"):
        return ten_examples()
    code = "```python\ndef double(x):\n    y = x + x\n    return y\n\n\nprint(double(2))\n```"
    extra = json.dumps({"tests": ["assert double(2) == 4"]})
    rows = pool_of(("Write a function that doubles a number.", code)).with_columns(pl.lit(extra).alias("extra"))
    return pl.concat([ten_examples(), rows.with_columns(pl.lit(b"program of tests", pl.Binary).alias("id"))])


def benchmarks() -> dict[str, pl.DataFrame]:
    prompts = [awkward_pool()["messages"][i][0]["content"] for i in (5, 6)]
    items = {
        "item": ["x", "y", "z"],
        "prompt": [*prompts, "What is the capital of France then"],
        "answer": [None, "b", ""],
    }
    return {"quiz": pl.DataFrame(items)}


def applied(method: Any, pool: pl.DataFrame) -> Any:
    """What the method says about the pool, whatever its verb."""
    match method.stage:
        case "generate":
            return method.generate(pool, using=using(), rng=rng(5))
        case "rank":
            return method.rank(pool, target=ten_examples().head(3), using=using(), rng=rng(5))
        case "select":
            return method.cut(pool, ranking_of(pool), using=using(), rng=rng(5))
        case "decontaminate":
            return method.judge(pool, benchmarks(), using=using(), rng=rng(5))
        case "mix":
            sources = {str(s): pool.filter(source=s) for s in pool["source"].unique()}
            tools = replace(using(), _tune=SimulatedTuner(skills=("sky", "river")).open())
            return method.weigh(sources, using=tools, rng=rng(5))
        case _:
            return method.judge(pool, using=using(), rng=rng(5))


def ranking_of(pool: pl.DataFrame) -> pl.DataFrame:
    """Scores with ties and a gap, by id."""
    scores = [None if i[0] % 7 == 0 else float(i[0] % 5) for i in pool["id"]]
    return pl.DataFrame({"id": pool["id"], "score": pl.Series(scores, dtype=pl.Float64)})


def plain(result: Any) -> Any:
    """A result as values in an order of its own, floats to four digits, which no platform disputes."""
    if isinstance(result, Blend):
        return rounded([dict(result.weights), dict(result.take)])
    if isinstance(result, Generated):
        return [rounded(result.examples.rows()), rounded(result.refused.rows())]
    return rounded(result.select(sorted(result.columns)).sort("id").rows())


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


@each
def test_the_digest_of_ten_examples_moves_only_with_the_version(name: str):
    digest, version = fingerprint(plain(applied(made(name), examples_for(name)))), METHODS[name].version
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if os.environ.get("PROVENDER_GOLDEN") == "write":
        golden[name] = {"version": version, "digest": digest}
        GOLDEN.write_text(json.dumps(dict(sorted(golden.items())), indent=1) + "\n", encoding="utf-8")
    assert name in golden, f"{name} is new: record it with PROVENDER_GOLDEN=write"
    if golden[name]["version"] == version:
        verb = {"generate": "writes", "rank": "ranks", "mix": "weighs"}.get(name.split("/")[0], "judges")
        assert digest == golden[name]["digest"], (
            f"{name} now {verb} differently: raise {METHODS[name].__name__}.version"
        )
    assert golden[name] == {"version": version, "digest": digest}, (
        f"{name}: record version {version} (PROVENDER_GOLDEN=write)"
    )


def test_every_golden_method_still_exists():
    assert set(json.loads(GOLDEN.read_text(encoding="utf-8"))) == set(METHODS)


@each
def test_a_method_comes_back_from_its_own_json(name: str):
    method = made(name)
    fields = json.loads(canonical_json(method.model_dump(mode="json")))
    assert TypeAdapter(UNIONS[method.stage]).validate_python(fields) == method


@each_judge
@settings(deadline=None, max_examples=8)
@given(st.permutations(range(awkward_pool().height)), st.integers(1, awkward_pool().height))
def test_verdicts_are_one_per_example_with_known_reasons_whatever_the_order(name: str, order: list[int], size: int):
    pool, method = awkward_pool()[sorted(order[:size])], made(name)
    said = conform(applied(method, pool), VERDICTS, name)
    assert sorted(said["id"]) == sorted(pool["id"])
    assert set(said["fate"]) <= set(FATES)
    dropped = said.filter(pl.col("fate").is_in(["reject", "quarantine"]))
    known = {rule.name for rule in method.settled_rules(said)}
    assert set(dropped["reason"]) <= known
    assert said["successor"].null_count() == said.filter(pl.col("fate") != "edit").height
    for evidence in said["evidence"].drop_nulls():
        assert canonical_json(json.loads(evidence)) == evidence
    again = applied(method, awkward_pool()[order[:size]])
    assert plain(again) == plain(said)


@pytest.mark.parametrize("name", [name for name in JUDGES if METHODS[name].per_example])
def test_a_method_that_judges_each_example_alone_says_the_same_of_shards(name: str):
    method, pool = made(name), awkward_pool()
    parts = [applied(method, pool[rows]) for rows in ([0, 3, 5], [i for i in range(pool.height) if i not in (0, 3, 5)])]
    assert plain(pl.concat(parts)) == plain(applied(method, pool))


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("rank/")])
def test_a_ranking_scores_every_example_once_and_does_not_depend_on_order_or_sharding(name: str):
    method, pool = made(name), awkward_pool()
    scores = applied(method, pool)
    assert sorted(scores["id"]) == sorted(pool["id"])
    assert scores["score"].is_finite().all()  # null where there is none
    assert plain(applied(method, pool.reverse())) == plain(scores)
    if method.per_example:
        assert plain(pl.concat([applied(method, pool[:7]), applied(method, pool[7:])])) == plain(scores)


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("mix/")])
def test_a_mixture_sums_to_one_and_does_not_depend_on_row_order(name: str):
    method = quick(made(name))
    blend = applied(method, ten_examples())
    assert sum(blend.weights.values()) == pytest.approx(1)
    assert set(blend.weights) == set(blend.take) == {"a", "b"}
    assert all(count >= 0 for count in blend.take.values())
    assert plain(applied(method, ten_examples().reverse())) == plain(blend)


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("generate/")])
def test_what_is_generated_has_parents_among_the_seeds(name: str):
    seeds = examples_for(name)
    made_ = applied(made(name), seeds)
    conform(made_.examples, CREATED, name)
    conform(made_.refused, REFUSED, name)
    assert made_.examples.height > 0
    assert (made_.examples["parents"].list.len() > 0).all()
    assert set(made_.examples["parents"].explode()) <= set(seeds["id"])
