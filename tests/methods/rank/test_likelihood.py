"""Loss-based rankings on planted log-probabilities, worked by hand."""

import math

import polars as pl
import pytest

from backends.protocols import TokenLogprobs, Turn
from methods.rank.grape import Grape
from methods.rank.ifd import IFD, ifd_ratio
from methods.rank.learnability import Learnability, learned
from methods.rank.min_k import MinK
from methods.rank.perplexity import Perplexity
from schemas.errors import BudgetExceeded, EmptyStage, EngineDown
from schemas.method import Using
from tests.methods._engines import Planted
from tests.methods._pools import pool_of, rng


def lp(*losses: float, truncated: bool = False) -> TokenLogprobs:
    return TokenLogprobs(tuple(-x for x in losses), truncated)


def ranked(method, pool: pl.DataFrame, engine: Planted) -> dict[str, list]:
    return method.rank(pool, target=None, using=Using(_llm=engine, _student=engine), rng=rng()).to_dict(as_series=False)


GIVEN = {"a": lp(1.2, 0.8, 0.5, 0.3), "b": lp(1, 2, 3), "c": lp(3, 3), "d": lp(1, truncated=True), "e": lp(1)}
ALONE = {"a": lp(2.0, 1.5, 0.9, 0.6), "b": lp(2, 2, 2), "c": lp(1, 1), "d": lp(2), "e": lp(2, truncated=True)}
POOL = pool_of(*[("q", answer) for answer in "abcde"], ("q", ""))


def test_ifd_of_the_specification_vectors():
    found = ranked(IFD(), POOL, Planted(GIVEN, ALONE))
    # (1.2+.8+.5+.3)/4 = .7 over (2+1.5+.9+.6)/4 = 1.25
    assert found["score"][0] == pytest.approx(0.56)
    assert ranked(IFD(variant="ppl-ratio"), POOL, Planted(GIVEN, ALONE))["score"][0] == pytest.approx(
        0.5769498103804868
    )


def test_ifd_is_null_where_the_prompt_does_not_help_or_the_answer_was_cut_with_parts_that_say_why():
    found = ranked(IFD(), POOL, Planted(GIVEN, ALONE))
    assert found["score"][1:] == [None] * 5
    assert found["ratio"] == [pytest.approx(0.56), 1.0, 3.0, None, None, None]
    assert found["truncated"] == [0, 0, 0, 1, 1, 0]
    assert found["sum_logprob_cond"] == [pytest.approx(-2.8), -6, -6, -1, -1, None]
    assert found["sum_logprob_direct"] == [pytest.approx(-5.0), -6, -2, -2, -2, None]
    assert found["n_tokens"] == [4, 3, 2, 1, 1, None]


def test_the_two_ratios_rank_differently():
    # losses (1.0, 1.25) against (2.4, 2.8): .80 < .857, but exp(-.25) = .779 > exp(-.4) = .670
    frame = pl.DataFrame({"given": [1.0, 2.4, 1.2], "alone": [1.25, 2.8, 2.0]})
    by_loss, by_ppl = (
        frame.select(ifd_ratio(pl.col("given"), pl.col("alone"), v).alias("r"))["r"]
        for v in ("loss-ratio", "ppl-ratio")
    )
    assert by_loss[0] < by_loss[1]
    assert by_ppl[0] > by_ppl[1]
    assert (by_loss[2], by_ppl[2]) == (pytest.approx(0.6), pytest.approx(0.449329, abs=1e-6))


def test_the_answer_alone_is_scored_once_per_text_and_given_all_turns_before_it():
    pool = pool_of(
        ("p", "same"),
        ("q", "same"),
        [("system", "s"), ("user", "u"), ("assistant", "x"), ("user", "v"), ("assistant", "y")],
    )
    engine = Planted()
    ranked(IFD(), pool, engine)
    assert [r.completion for r in engine.asked if not r.messages] == ["same", "y"]
    assert engine.asked[2].messages == (
        Turn("system", "s"),
        Turn("user", "u"),
        Turn("assistant", "x"),
        Turn("user", "v"),
    )


def test_a_certain_answer_has_no_ratio():
    assert ranked(IFD(), pool_of(("q", "a")), Planted({"a": lp(0.0)}, {"a": lp(0.0)}))["score"] == [None]


@pytest.mark.parametrize(
    ("order", "scores"), [("low", [-0.7, -2, -3]), ("high", [0.7, 2, 3]), ("middle", [-0.8, -0.5, -1.5])]
)
def test_perplexity_in_three_orders(order: str, scores: list):
    found = ranked(Perplexity(order=order), POOL, Planted(GIVEN, ALONE))
    assert found["score"][:3] == pytest.approx(scores)  # mean losses .7, 2, 3 and 1 (e): median 1.5
    assert found["score"][3] is None  # truncated
    assert found["score"][5] is None  # empty
    assert math.exp(found["loss"][0]) == pytest.approx(2.0137527)


def test_a_budget_that_ends_and_an_engine_that_is_gone_stop_the_ranking():
    pool = pool_of(*[(f"q{i}", f"a{i}") for i in range(5)])
    with pytest.raises(BudgetExceeded, match="refused to score"):
        ranked(Perplexity(), pool, Planted({"a3": TokenLogprobs(failure="over-budget")}))
    gone = {f"a{i}": TokenLogprobs(failure="timeout") for i in range(5)}
    with pytest.raises(EngineDown, match="all 5 scorings"):
        ranked(Perplexity(), pool, Planted(gone))
    assert ranked(Perplexity(), pool, Planted(dict(list(gone.items())[:4])))["score"] == [None] * 4 + [-1.0]


def test_min_k_looks_at_the_least_likely_tokens_only():
    given = {"a": lp(1, 5, 2, 3), "b": lp(2, 2, 2, 2), "c": lp(9, truncated=True)}
    pool = pool_of(*[("q", answer) for answer in "abc"])
    found = ranked(MinK(k_fraction=0.5), pool, Planted(given))
    assert found["score"] == [4.0, 2.0, None], "(5 + 3) / 2 nats, and (2 + 2) / 2"
    assert ranked(MinK(k_fraction=0.5, order="seen"), pool, Planted(given))["score"] == [-4.0, -2.0, None]
    assert ranked(MinK(k_fraction=0.01), pool, Planted(given))["tail_logprob"][0] == -5.0, "at least one token"


def test_grape_takes_the_likeliest_answer_of_each_question_and_the_mean_is_not_the_sum():
    # the specification's example: sum -12 over 20 tokens against -6 over 5
    given = {"long": lp(*[0.6] * 20), "short": lp(*[1.2] * 5), "alone": lp(1.0)}
    pool = pool_of(("Q one?", "long"), ("q  ONE", "short"), ("q two", "alone"), ("q one", "short"))
    mean = ranked(Grape(), pool, Planted(given))
    assert mean["score"] == [0.0, pytest.approx(-0.6), None, None], "an answer repeated word for word counts once"
    assert mean["answers"][:2] == [2.0, 2.0]
    total = ranked(Grape(normalize="sum"), pool, Planted(given))
    assert total["score"][:2] == [pytest.approx(-6.0), 0.0]
    worst = ranked(Grape(order="worst"), pool, Planted(given))
    assert worst["score"][:2] == [pytest.approx(-0.6), 0.0]
    assert ranked(Grape(min_answers=1), pool, Planted(given))["score"][2] == 0.0


def test_learnability_of_the_specification_vectors():
    frame = pl.DataFrame({"before": [1.0, 2.0, 1.0, 0.0], "after": [0.25, 2.0, 1.2, 0.3]})
    share = frame.select(learned(pl.col("before"), pl.col("after"), normalize=True).alias("s"))["s"].to_list()
    assert share == [pytest.approx(0.75), 0.0, pytest.approx(-0.2), 0.0]
    # dividing by the loss afterwards ranks the same: 1 - r falls as 1/r - 1 does
    assert frame.select(learned(pl.col("before"), pl.col("after"), normalize=False).alias("s"))["s"][0] == 0.75


class OneTuned:
    """A tuner whose tuned model has the losses of one table and whose base has those of another."""

    def __init__(self, base: Planted, tuned: Planted) -> None:
        self.base, self.after, self.lessons = base, tuned, []

    def untuned(self) -> Planted:
        return self.base

    def tuned(self, conversations, *, rng_seed: int = 0, keep_order: bool = False) -> Planted:
        self.lessons.append(conversations)
        return self.after


def test_learnability_tunes_once_on_the_answers_and_scores_every_row():
    tuner = OneTuned(
        Planted({"a": lp(1.0), "b": lp(2.0), "c": lp(1.0)}), Planted({"a": lp(0.25), "b": lp(2.0), "c": lp(1.2)})
    )
    pool = pool_of(("q", "a"), ("q", "b"), ("q", "c"), ("q", ""))
    found = Learnability().rank(pool, target=None, using=Using(_tune=tuner), rng=rng())
    assert found["score"].to_list() == [pytest.approx(0.75), 0.0, pytest.approx(-0.2), None]
    assert [len(lesson) for lesson in tuner.lessons] == [3], "an empty answer teaches nothing"
    with pytest.raises(EmptyStage, match="none of 1 examples"):
        Learnability().rank(pool_of(("q", "")), target=None, using=Using(_tune=tuner), rng=rng())
