"""Exact dedup: who stays, what is compared, and that order and repetition change nothing."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from methods.dedup.exact import Exact
from schemas.errors import UsageError
from schemas.examples import MESSAGES, turns
from tests.methods._pools import NOTHING, awkward_pool, example_id, pool_of, reasons, rng

WORDS = st.sampled_from(["a", "A ", "b", "ｂ", "a\u200b", "c  d", "C d", ""])
POOLS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6)


def judge(pool: pl.DataFrame, **fields) -> pl.DataFrame:
    return Exact(**fields).judge(pool, using=NOTHING, rng=rng())


def test_a_repeat_names_the_example_that_stays():
    pool = pool_of(("What is  3 + 4?", "7"), ("what is 3 - 4?", "-1"), ("WHAT IS 3 + 4?\u200b", "７"))
    said = judge(pool)
    first, last = sorted([example_id(0), example_id(2)])
    assert dict(zip(said["id"], said["reason"], strict=True)) == {
        first: None,
        last: "exact-duplicate",
        example_id(1): None,
    }
    row = said.row(by_predicate=pl.col("id") == last, named=True)
    assert json.loads(row["evidence"]) == {"repeats": first.hex(), "similarity": 1.0, "on": "both"}
    assert row["score"] == 1.0


@pytest.mark.parametrize(("on", "dropped"), [("prompt", 1), ("answer", 1), ("both", 0)])
def test_only_the_chosen_text_counts(on: str, dropped: int):
    pool = pool_of(("same", "x"), ("same", "y"), ("other", "y"))
    assert len([r for r in reasons(judge(pool, on=on), pool) if r]) == dropped


def test_the_rule_says_which_of_a_group_stays():
    pool = pool_of(("q", "a"), ("q", "the longest"), ("q", "longer"), source=["raw", "web", "gold"])
    assert reasons(judge(pool, on="prompt", keep="longest-answer"), pool)[1] is None
    best = judge(pool, on="prompt", keep="best-source", source_priority=("gold", "web"))
    assert reasons(best, pool)[2] is None
    lowest = min(range(3), key=example_id)
    assert reasons(judge(pool, on="prompt"), pool)[lowest] is None


def test_roles_turn_boundaries_tools_and_the_other_answer_tell_conversations_apart():
    same = [("user", "a b"), ("assistant", "c")]
    pool = pool_of(
        same, [("user", "a"), ("assistant", "b c")], [("system", "a b"), ("assistant", "c")], same, same,
        worse=[None, None, None, turns(("assistant", "d")), turns(("assistant", "e"))],
    )  # fmt: skip
    assert reasons(judge(pool), pool) == [None] * 5
    tools = pool.with_columns(
        pl.Series("tools", [None, None, None, '[{"name":"f"}]', None]), pl.lit(None, dtype=MESSAGES).alias("worse")
    )
    kept = judge(tools).filter(pl.col("reason").is_null()).height
    assert kept == 4  # examples 0 and 4 are now the same


@settings(deadline=None, max_examples=60)
@given(POOLS, st.sampled_from(["prompt", "answer", "both"]), st.sampled_from(["first", "longest-answer"]), st.randoms())
def test_one_of_each_class_stays_whatever_the_order_and_a_second_pass_changes_nothing(rows, on, keep, random):
    pool = pool_of(*rows)
    said = judge(pool, on=on, keep=keep)
    kept = said.filter(pl.col("fate") == "keep")
    stays = {json.loads(e)["repeats"] for e in said["evidence"].drop_nulls()}
    assert stays <= {i.hex() for i in kept["id"]}  # whom a repeat names has stayed
    order = list(range(len(rows)))
    random.shuffle(order)
    assert judge(pool[order], on=on, keep=keep).sort("id").equals(said.sort("id"))
    survivors = pool.join(kept.select("id"), on="id", how="semi")
    assert judge(survivors, on=on, keep=keep)["reason"].null_count() == survivors.height
    each = [judge(pool[[i, j]], on=on, keep=keep)["reason"].null_count() for i in order for j in order if i < j]
    assert (kept.height == len(rows)) == all(n == 2 for n in each)


def test_a_pool_of_empty_answers_is_one_class_and_an_empty_pool_is_none():
    pool = pool_of(("a", ""), ("b", " \u200b"))
    assert judge(pool, on="answer")["reason"].null_count() == 1
    assert judge(pool_of().clear()).height == 0


@pytest.mark.parametrize(
    ("normalize", "kept"), [("none", 5), ("spacing", 3), ("words", 1)], ids=["none", "spacing", "words"]
)
@pytest.mark.parametrize("on", ["prompt", "answer", "both"])
def test_the_level_says_what_may_differ(normalize: str, kept: int, on: str):
    texts = ["Say 3 + 4", "say  3 + 4", "Say 3 +\u200b 4", "Say 3 - 4", "Sаy: ３ 4!"]  # the last with a Cyrillic a
    pool = pool_of(*((text, text) for text in texts))
    assert judge(pool, normalize=normalize, on=on)["reason"].null_count() == kept


def test_texts_without_words_are_told_apart_by_their_signs():
    pool = pool_of(("q", "🙂"), ("q", "🙃"), ("q", "+"), ("q", " + "), ("q", ""))
    assert judge(pool, normalize="words", on="answer")["reason"].null_count() == 4


def test_a_text_cannot_pass_for_the_boundary_of_two_turns():
    forged = "hi0:9:assistant2:yo0:4:user2:hi"
    pool = pool_of(
        [("user", "hi"), ("assistant", "yo"), ("user", "hi"), ("assistant", "x")],
        [("user", forged), ("assistant", "x")],
        [("user", "hi\x1f\x1dassistant\x1fyo\x1f\x1duser\x1fhi"), ("assistant", "x")],
    )
    for normalize in ("none", "spacing"):
        assert judge(pool, normalize=normalize)["reason"].null_count() == 3


def test_scope_says_who_may_repeat_whom():
    pool = pool_of(*[("q", "a")] * 5, source=["a", "a", "b", "b", "b"])
    within = judge(pool, scope="within-source").filter(fate="keep")["id"].to_list()
    assert sorted(within) == sorted([min(map(example_id, (0, 1))), min(map(example_id, (2, 3, 4)))])
    across = judge(pool, scope="across-sources", keep="best-source", source_priority=("b",))
    assert reasons(across, pool) == ["exact-duplicate"] * 2 + [None] * 3
    home = min(map(example_id, (2, 3, 4))).hex()
    assert {json.loads(e)["repeats"] for e in across["evidence"].drop_nulls()} == {home}


def test_the_result_does_not_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch):
    pool = awkward_pool()
    whole = judge(pool)
    monkeypatch.setattr("methods.dedup._equal_texts._ROWS", 3)
    assert judge(pool).equals(whole)
    assert whole.filter(fate="reject").height == 2


def test_a_way_to_keep_that_says_nothing_is_refused_instead_of_keeping_the_first():
    with pytest.raises(ValidationError, match="best-source and source_priority go together"):
        Exact(keep="best-source")
    with pytest.raises(ValidationError, match="best-source and source_priority go together"):
        Exact(source_priority=("gold",))
    pool = pool_of(("a", "b"), ("a", "b")).with_columns(extra=pl.Series(['{"quality":"good"}', None]))
    with pytest.raises(UsageError, match="no example has a number in 'quality'"):
        judge(pool, keep="highest-field", keep_field="quality")
    with pytest.raises(UsageError, match="names none of the pool's sources, which are toy"):
        judge(pool, keep="best-source", source_priority=("gold",))
    assert judge(pool.clear(), keep="highest-field", keep_field="quality").height == 0
