"""Every rank, select and mix method on what it was not made for: a clear error or a stated fallback, never a wrong answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from backends.protocols import TokenLogprobs
from backends.tune.simulated import SimulatedTuner
from methods.select.quota import Quota
from schemas.errors import BackendError, EmptyStage, InvariantViolation, UsageError
from schemas.method import Blend, Using
from tests.methods._engines import Hashed
from tests.methods._pools import NOTHING, pool_of, rng, ten_examples
from tests.methods.test_unions import FIELDS, METHODS, ranking_of, using

RANKS, SELECTS, MIXES = (sorted(n for n in METHODS if n.startswith(f"{s}/")) for s in ("rank", "select", "mix"))
#: Rankings that aim at a target.
AIMING = {f"rank/{n}" for n in ("dsir", "got-d", "information-gain", "knn-shapley", "less", "rds-plus", "tsds")}
#: Those that measure the target's answers, not only its texts.
NEED_ANSWERS = {"rank/less", "rank/information-gain"}
#: Those that train a proxy: without an example to learn from there is nothing to measure.
TRAINING = {f"rank/{n}" for n in ("gradient-spectrum", "information-gain", "learnability", "less", "multistage")}
MEASURED = [n for n in MIXES if "tune" in METHODS[n].needs]
LAWS = ["mix/data-mixing-laws", "mix/log-linear", "mix/quadratic", "mix/regmix"]

TEN = ten_examples()
ONE = pool_of(("say a word", "rain"))
SAME = pool_of(*[("say a word", "rain")] * 6)
MUTE = pool_of(("say a word", ""), ("", ""))
rank, select, mix = (pytest.mark.parametrize("name", names) for names in (RANKS, SELECTS, MIXES))


def ranked(name: str, pool: pl.DataFrame, target: pl.DataFrame | None) -> pl.DataFrame:
    said = METHODS[name](**FIELDS.get(name, {})).rank(pool, target=target, using=using(), rng=rng(1))
    assert sorted(said["id"]) == sorted(pool["id"])
    assert said["score"].drop_nulls().is_finite().all()
    return said


@rank
def test_without_a_target_a_ranking_that_aims_says_so_and_the_others_do_not_care(name: str) -> None:
    for target, told in ((None, "there is none"), (TEN.head(0), "there is an empty one")):
        if name in AIMING:
            with pytest.raises(UsageError, match=told):
                ranked(name, TEN, target)
        else:
            assert ranked(name, TEN, target).height == 10


@rank
def test_a_target_without_answers_serves_only_rankings_by_the_texts(name: str) -> None:
    if name in NEED_ANSWERS:
        with pytest.raises(UsageError, match="none of 2 target examples has an answer"):
            ranked(name, TEN, MUTE)
    elif name in AIMING:
        assert ranked(name, TEN, MUTE)["score"].count() > 0


@rank
def test_a_pool_of_nothing_or_without_answers_has_no_scores_or_is_refused_where_a_proxy_must_learn(name: str) -> None:
    for pool in (TEN.head(0), MUTE):
        if name in TRAINING:
            with pytest.raises(EmptyStage, match=f"none of {pool.height} examples"):
                ranked(name, pool, TEN.head(3))
        else:
            ranked(name, pool, TEN.head(3))


@rank
def test_a_pool_of_one_and_one_of_copies_are_ranked(name: str) -> None:
    assert ranked(name, ONE, TEN.head(3)).height == 1
    scores = ranked(name, SAME, TEN.head(3))["score"]
    drawn = ("rank/uniform", "rank/balanced-uniform", "rank/dsir", "rank/tsds")  # chance tells copies apart
    if name == "rank/rds-plus":
        assert sorted(scores) == [-5, -4, -3, -2, -1, 0], "places, by id"
    elif name not in drawn:
        assert scores.n_unique() == 1, "equal texts, equal scores"


def cut(name: str, pool: pl.DataFrame, ranking: pl.DataFrame, **budget: Any) -> pl.DataFrame:
    fields = {k: v for k, v in FIELDS[name].items() if k != "keep_examples"} if name in FIELDS else {}
    said = METHODS[name](**fields, **budget).cut(pool, ranking, using=using(), rng=rng(1))
    assert said.height == pool.height
    return said.filter(fate="keep")


@select
@pytest.mark.parametrize(
    "budget", [{"keep_examples": 0}, {"keep_examples": -3}, {"budget_tokens": 0}, {"budget_tokens": -1}, {}]
)
def test_a_budget_of_nothing_is_refused(name: str, budget: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        METHODS[name](**budget)


@select
def test_a_budget_larger_than_the_pool_keeps_the_pool(name: str) -> None:
    fields = {"keep_examples": 10**6}, {"budget_tokens": 10**9}
    for budget in fields:
        limit = {"max_similarity": 1.0} if name == "select/deita" else {}
        method = METHODS[name](**{**FIELDS[name], "keep_examples": None, **budget, **limit})
        said = method.cut(TEN, ranking_of(TEN), using=using(), rng=rng(1))
        assert (said["fate"] == "keep").all()


@select
def test_a_selection_from_nothing_from_one_and_from_copies(name: str) -> None:
    assert cut(name, TEN.head(0), ranking_of(TEN.head(0)), keep_examples=3).height == 0
    assert cut(name, ONE, ranking_of(ONE), keep_examples=3).height == 1
    copies = cut(name, SAME, ranking_of(SAME), keep_examples=3).height
    assert copies == (1 if name == "select/deita" else 3), "deita keeps one of those that are too much alike"


@select
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_never_ranked(name: str, bad: float) -> None:
    ranking = pl.DataFrame({"id": TEN["id"], "score": [bad] + [1.0] * 9})
    if METHODS[name].ranked:
        with pytest.raises(InvariantViolation, match="1 scores of the ranking are not finite"):
            cut(name, TEN, ranking, keep_examples=4)
    else:
        clean = pl.DataFrame({"id": TEN["id"], "score": [1.0] * 10})
        kept = [set(cut(name, TEN, scores, keep_examples=4)["id"]) for scores in (ranking, clean)]
        assert kept[0] == kept[1], "what looks at the set reads no ranking"


@select
def test_scores_that_are_all_alike_are_told_apart_by_id_or_by_the_set(name: str) -> None:
    flat = pl.DataFrame({"id": TEN["id"], "score": [1.0] * 10})
    first = set(cut(name, TEN, flat, keep_examples=4)["id"])
    assert first == set(cut(name, TEN.reverse(), flat, keep_examples=4)["id"])
    if name in ("select/top", "select/quota"):
        assert first == set(TEN["id"].sort()[:4]) or name == "select/quota"


def test_a_source_smaller_than_its_quota_gives_what_it_has() -> None:
    pool = pool_of(*[("ask", "tell")] * 5, source=["small"] * 2 + ["large"] * 3)
    ranking = pl.DataFrame({"id": pool["id"], "score": [1.0] * 5})
    fixed = Quota(quotas={"small": 4, "large": 2}).cut(pool, ranking, using=NOTHING, rng=rng())
    shared = Quota(keep_examples=4).cut(pool, ranking, using=NOTHING, rng=rng())
    for said, kept in ((fixed, {"small": 2, "large": 2}), (shared, {"small": 2, "large": 2})):
        by_source = pool.join(said.filter(fate="keep").select("id"), on="id", how="semi")["source"].value_counts()
        assert dict(by_source.iter_rows()) == kept


SKILLS = {"skills": ("sky", "river"), "rate": 0.3}


def source(word: str, count: int) -> pl.DataFrame:
    ids = pl.Series("id", [(word + str(i)).encode().ljust(16, b"0") for i in range(count)], dtype=pl.Binary)
    rows = [(f"tell of {word} {i}", f"{word} is {i}") for i in range(count)]
    return (pool_of(*rows, source=word) if rows else pool_of(("a", "b"), source=word).head(0)).with_columns(ids)


SKY, RIVER = source("sky", 30), source("river", 30)
AIM = pool_of(("what of the sky", "sky it is"), ("what of the river", "river it is"))


def weighed(name: str, pools: dict[str, pl.DataFrame], tuner: Any = None, aim: Any = AIM, **fields: Any) -> Blend:
    own = {"weights": dict.fromkeys(pools, 1.0)} if name == "mix/fixed" else dict(FIELDS.get(name, {}))
    quick = {"check_seeds": 1} if name in MEASURED else {}
    quick |= {"bootstraps": 2} if name in LAWS else {}
    method = METHODS[name](**{**quick, **own, **fields})
    tools = replace(Using(_embed=Hashed()), _tune=tuner or SimulatedTuner(**SKILLS).open())
    made = method.weigh(pools, using=tools, rng=rng(1), target=aim if method.aims else None)
    assert sum(made.weights.values()) == pytest.approx(1)
    assert all(made.take[name] == 0 for name, frame in pools.items() if frame.is_empty())
    return made


@mix
def test_sources_without_examples_give_nothing_and_nothing_at_all_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="nothing to mix: river, sky without examples"):
        weighed(name, {"sky": SKY.head(0), "river": RIVER.head(0)})
    if name == "mix/fixed":
        with pytest.raises(UsageError, match="'river' a weight of 1, and it has no examples"):
            weighed(name, {"sky": SKY, "river": RIVER.head(0)})
        assert weighed(name, {"sky": SKY, "river": RIVER.head(0)}, total_examples=20).notes["capped"] == ["river"]
    else:
        assert weighed(name, {"sky": SKY, "river": RIVER.head(0)}).take == {"sky": 30, "river": 0}


@mix
def test_one_source_is_taken_as_it_is_without_a_run(name: str) -> None:
    made = weighed(name, {"sky": SKY}, tuner=_Refusing())
    assert made.take == {"sky": 30}
    if name in MEASURED:
        assert made.notes["says"] == "sky is the only source to learn from; nothing was measured"


@mix
def test_more_examples_than_repeats_allow_are_not_invented_and_the_notes_say_who_ran_out(name: str) -> None:
    made = weighed(name, {"sky": SKY, "river": RIVER}, total_examples=100_000, max_repeats=2)
    assert made.take == {"sky": 60, "river": 60}
    assert made.notes["capped"] == ["river", "sky"]
    assert made.notes["wanted_examples"] == 100_000


@mix
def test_a_mixture_of_nothing_is_refused(name: str) -> None:
    own = {"weights": {"a": 1.0}} if name == "mix/fixed" else {}
    for bad in ({"total_examples": 0}, {"total_examples": -5}, {"max_repeats": 0}):
        with pytest.raises(ValidationError):
            METHODS[name](**own, **bad)


@pytest.mark.parametrize("name", [n for n in MEASURED if METHODS[n].aims])
def test_an_empty_target_is_refused_before_anything_is_trained(name: str) -> None:
    with pytest.raises(UsageError, match="no proxy can be measured: give a target set with answers"):
        weighed(name, {"sky": SKY, "river": RIVER}, tuner=_Refusing(), aim=AIM.head(0))


@pytest.mark.parametrize("name", MEASURED)
def test_losses_that_are_no_numbers_end_with_the_way_out(name: str) -> None:
    with pytest.raises(BackendError, match="lower the tuner's learning_rate"):
        weighed(name, {"sky": SKY, "river": RIVER}, tuner=_Diverging())


@pytest.mark.parametrize("name", LAWS)
def test_a_law_over_losses_that_are_all_alike_is_refused(name: str) -> None:
    frozen = SimulatedTuner(skills=("sky", "river"), rate=1e-9).open()
    told = "log-linear" if name == "mix/data-mixing-laws" else name[4:].replace("regmix", "linear")
    with pytest.raises(UsageError, match=f"the {told} law cannot be fitted: all .* runs have the loss 3"):
        weighed(name, {"sky": SKY, "river": RIVER}, tuner=frozen)


@pytest.mark.parametrize("name", LAWS)
def test_a_law_with_fewer_mixtures_than_it_has_parameters_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"needs \d different mixtures; \d were measured: raise `proxies`"):
        weighed(name, {"sky": SKY, "river": RIVER}, proxies=2)


def test_a_bandit_that_has_no_time_to_choose_says_so() -> None:
    pools = {"sky": SKY, "river": RIVER, "sea": source("sea", 30)}
    session = {"proxy_examples": 12, "proxy_epochs": 1.0}
    with pytest.raises(UsageError, match="explores 3 sources evenly for 4 batches and the session has 3"):
        weighed("mix/odm", pools, batch_examples=4, **session)
    weighed("mix/odm", pools, batch_examples=2, **session)


@pytest.mark.parametrize("name", [n for n in MEASURED if n not in LAWS])
def test_sources_that_teach_the_same_end_near_their_even_or_natural_shares(name: str) -> None:
    twins = {"sky": SKY, "river": RIVER.with_columns(SKY["messages"])}  # other ids, the same texts
    aim = AIM.head(1)
    made = weighed(name, twins, aim=aim, tuner=SimulatedTuner(skills=("sky", "none"), rate=0.3).open())
    assert made.weights["sky"] == pytest.approx(0.5, abs=0.05)
    assert "better than" not in str(made.notes["says"])


class _Refusing:
    """A tuner that must not be asked."""

    def identity(self) -> dict[str, Any]:
        return {"backend": "refusing"}

    def start(self, rng_seed: int = 0) -> Any:
        raise AssertionError("nothing should be trained here")


class _Diverging:
    """Every loss is NaN, in training and after it."""

    def identity(self) -> dict[str, Any]:
        return {"backend": "diverging"}

    def start(self, rng_seed: int = 0) -> Any:
        session: Any = SimulatedTuner(**SKILLS).open().start(rng_seed)
        session.losses = _all_nan
        session.learn = lambda talks, **how: [float("nan")]
        return session


_all_nan: Callable[[Any], list[TokenLogprobs]] = lambda talks: [TokenLogprobs((float("nan"),)) for _ in talks]  # noqa: E731
