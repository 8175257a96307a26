"""Evol-Instruct: rounds, operators, every elimination rule, what survives."""

import json
from collections import Counter

import pytest
from pydantic import ValidationError

from backends.llm.scripted import ReplyRule, Scripted
from backends.protocols import Reply, Request
from methods.asking.structured import Asking
from methods.generate._elimination import answer_fault, prompt_fault, tidied
from methods.generate.evol_instruct import OPERATORS, EvolInstruct
from schemas.method import Using
from tests.methods._pools import pool_of, rng
from tests.methods.generate._candidates import evidence_in, with_system
from tests.methods.llm_doubles import AnswersBy, asked_text

POOL = pool_of(("Name a river.", "The Seine."))
GAINED = json.dumps({"reason": "more", "equal": False})
EQUAL = json.dumps({"reason": "same", "equal": True})


def evolver(request: Request) -> str | Reply:
    """Adds a word each time; answers with a sentence."""
    text = asked_text(request)
    if "<prompt>" in text:
        return text.split("<prompt>\n")[1].split("\n</prompt>")[0] + " Really."
    return f"An answer to: {text}"


def evolved(answer=evolver, verdict=GAINED, pool=POOL, **fields):
    llm, judge = AnswersBy(answer), AnswersBy(lambda r: verdict)
    made = EvolInstruct(**fields).generate(pool, using=Using(_llm=llm, _judge=judge), rng=rng())
    return made, llm, judge


def prompts_in(made) -> list[str]:
    return [messages[-2]["content"] for messages in made.examples["messages"]]


def test_every_round_evolves_what_survived_the_last():
    made, llm, judge = evolved(rounds=3)
    assert prompts_in(made) == [f"Name a river.{' Really.' * n}" for n in (1, 2, 3)]
    assert made.examples["messages"][2][-1]["content"] == "An answer to: Name a river. Really. Really. Really."
    assert [(e["round"], len(e["before"])) for e in evidence_in(made.examples)] == [(1, 0), (2, 1), (3, 2)]
    assert [len(calls) for calls in made.examples["calls"]] == [3, 6, 9]  # prompt, verdict and answer of each round
    assert (len(llm.asked), len(judge.asked)) == (6, 3)
    assert made.notes["survived_per_round"] == {"1": 1, "2": 1, "3": 1}


def test_only_the_last_survivor_where_only_that_counts():
    made, _, _ = evolved(rounds=3, keep="last")
    assert prompts_in(made) == ["Name a river. Really. Really. Really."]
    assert made.refused["reason"].to_list() == ["superseded"] * 2


def test_official_is_one_round_without_elimination():
    made, _, judge = evolved(compat="official", verdict=EQUAL)
    assert made.examples.height == 1
    assert judge.asked == []
    assert EvolInstruct(compat="official").needs == {"llm"}


def test_what_gained_nothing_is_eliminated_and_the_prompt_before_goes_on():
    made, llm, _ = evolved(verdict=EQUAL, rounds=2)
    assert made.examples.height == 0
    assert made.refused["reason"].to_list() == ["no-information-gain"] * 2
    shown = [asked_text(r) for r in llm.asked]
    assert all("<prompt>\nName a river.\n</prompt>" in text for text in shown)


@pytest.mark.parametrize(
    ("evolution", "answer", "reason"),
    [
        ("Name a river!", "x", "unchanged"),
        ("Please follow the given prompt and name rivers.", "x", "scaffold-words"),
        ("Name two rivers.", "I am sorry, I cannot.", "sorry"),
        ("Name two rivers.", "It is what it is.", "no-content"),
        ("Name two rivers.", "!!!", "no-content"),
        ("Name two rivers.", Reply(text="long", finish_reason="length"), "cut-off"),
        (Reply(failure="timeout", finish_reason="error"), "x", "call-timeout"),
        ("", "x", "empty"),
    ],
)
def test_every_elimination_rule_has_its_reason(evolution, answer, reason: str):
    made, _, _ = evolved(lambda r: evolution if "<prompt>" in asked_text(r) else answer, rounds=1)
    assert made.examples.height == 0
    assert made.refused["reason"].to_list() == [reason]


def test_a_judge_that_cannot_be_read_eliminates_with_a_reason_of_its_own():
    made, _, _ = evolved(verdict="who knows", rounds=1)
    assert made.refused["reason"].to_list() == ["unjudged-unparsed"]


def test_a_judge_may_answer_in_words():
    made, _, judge = evolved(verdict="reason: a second, equal: no", rounds=1, judging=Asking(form="text"))
    assert made.examples.height == 1
    assert judge.asked[0].sampling.json_schema is None


def test_operators_are_drawn_by_weight_from_the_examples_own_chance():
    pool = pool_of(*[(f"Question number {i}?", "x") for i in range(300)])
    made, _, _ = evolved(pool=pool, rounds=1, operators={"breadth": 3, "deepen": 1}, judge_gain=False)
    counts = Counter(e["operator"] for e in evidence_in(made.examples))
    assert set(counts) == {"breadth", "deepen"}
    assert counts["breadth"] == pytest.approx(225, abs=30)  # four standard deviations
    again, _, _ = evolved(pool=pool.reverse(), rounds=1, operators={"breadth": 3, "deepen": 1}, judge_gain=False)
    assert again.examples.equals(made.examples)


def test_turns_before_the_question_stay():
    made, _, _ = evolved(pool=with_system(POOL, "Be brief."), rounds=1)
    assert [turn["role"] for turn in made.examples["messages"][0]] == ["system", "user", "assistant"]


def test_too_many_added_words_count_only_in_depth():
    assert prompt_fault("Name a river.", "Name a river and a lake and a sea.", max_added_words=3) == "too-many-words"
    assert prompt_fault("Name a river.", "Name a river and a lake.", max_added_words=3) is None


def test_a_long_answer_may_say_sorry_and_a_prompt_may_have_spoken_of_prompts_before():
    assert answer_fault("sorry " + "word " * 80) is None
    assert prompt_fault("Rate the given prompt.", "Rate the given prompt twice.") is None
    assert tidied("#Rewritten Prompt#:\nName two.") == "Name two."


def test_unknown_operators_and_empty_weights_are_refused():
    with pytest.raises(ValidationError, match="operators are weights"):
        EvolInstruct(operators={"sideways": 1})
    with pytest.raises(ValidationError, match="operators are weights"):
        EvolInstruct(operators=dict.fromkeys(OPERATORS, 0))


def test_the_flow_runs_on_the_scripted_engine():
    engine = Scripted(
        rules=(
            ReplyRule(when="<first_prompt>", reply=GAINED),
            ReplyRule(when="<prompt>", reply="Name two rivers and say where they rise."),
        ),
        default="The Seine rises near Dijon, the Loire in the Massif Central.",
    ).open()
    made = EvolInstruct(rounds=1).generate(POOL, using=Using(_llm=engine, _judge=engine), rng=rng())
    assert prompts_in(made) == ["Name two rivers and say where they rise."]
