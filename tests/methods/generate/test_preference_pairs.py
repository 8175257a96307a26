"""SPIN and DivPO: which answer is chosen, which is worse, and what never becomes a pair."""

import json

import pytest
from pydantic import ValidationError

from backends.llm.scripted import ReplyRule, Scripted
from backends.protocols import Reply, ScoreRequest, TokenLogprobs
from methods.generate.divpo import Divpo
from methods.generate.spin import Spin
from schemas.identity import fingerprint
from schemas.method import Using
from tests.methods._pools import example_id, pool_of, rng
from tests.methods.generate._candidates import answers_in, evidence_in, pool_with, reasons_in, with_system
from tests.methods.llm_doubles import AnswersBy, asked_text


def worse_in(made) -> list[str]:
    return [worse[-1]["content"] for worse in made.examples["worse"]]


def test_the_given_answer_is_chosen_and_the_students_own_is_worse():
    student = AnswersBy(lambda r: "My own words.")
    made = Spin().generate(pool_of(("Hi?", "Given words.")), using=Using(_student=student), rng=rng())
    assert answers_in(made) == ["Given words."]
    assert worse_in(made) == ["My own words."]
    assert made.examples["parents"].to_list() == [[example_id(0)]]
    assert evidence_in(made.examples)[0]["iterate"] == fingerprint({"backend": "answers-by"}) == made.notes["iterate"]


def test_every_example_has_one_pair_or_one_reason():
    pool = pool_of(("a", "same  words"), ("b", "x"), ("c", "y"), ("d", "z"), ("e", ""))
    replies = {
        "a": "same words ", "b": "other", "c": Reply(text="cut", finish_reason="length"),
        "d": Reply(failure="timeout", finish_reason="error"),
    }  # fmt: skip
    made = Spin().generate(pool, using=Using(_student=AnswersBy(lambda r: replies[asked_text(r)])), rng=rng())
    assert worse_in(made) == ["other"]
    assert sorted(made.refused["reason"]) == ["call-timeout", "cut-off", "equal-answers", "no-answer"]


def test_official_asks_for_the_first_exchange_in_its_own_words_and_takes_cut_off_answers():
    pool = pool_of([("user", "Hi?"), ("assistant", "Hello."), ("user", "And?"), ("assistant", "Bye.")])
    student = AnswersBy(lambda r: Reply(text="\n I am</s>", finish_reason="length"))
    made = Spin(compat="official").generate(pool, using=Using(_student=student), rng=rng())
    assert student.asked[0].prompt == "### Instruction: Hi?\n\n### Response: "
    assert [turn["content"] for turn in made.examples["messages"][0]] == ["Hi?", "Hello."]
    assert worse_in(made) == ["I am"]
    fixed = Spin().generate(pool, using=Using(_student=AnswersBy(lambda r: "So long.")), rng=rng())
    assert [len(messages) for messages in fixed.examples["messages"]] == [4]


def test_the_whole_conversation_is_what_the_student_answers():
    student = AnswersBy(lambda r: "own")
    pool = with_system(pool_of(("Hi?", "Given.")), "Be brief.")
    made = Spin().generate(pool, using=Using(_student=student), rng=rng())
    assert [turn.role for turn in student.asked[0].messages] == ["system", "user"]
    assert [turn["role"] for turn in made.examples["messages"][0]] == ["system", "user", "assistant"]


def rates(ratings: dict[str, float]) -> AnswersBy:
    def rate(request):
        text = request.messages[0].content.split("<answer>\n")[1].split("\n</answer>")[0]
        return json.dumps({"reason": "so", "score": ratings[text]})

    return AnswersBy(rate)


def divpo(answers: dict[str, float], **fields):
    llm = AnswersBy(lambda r: list(answers)[r.sampling.index])
    method = Divpo(samples=len(answers), **fields)
    return method.generate(pool_of(("Tell me.", "x")), using=Using(_llm=llm, _judge=rates(answers)), rng=rng())


def test_the_rarest_good_answer_meets_the_commonest_bad_one():
    """Words by number of answers: the 4, cat 2, dog 2, owl 1. Good (10, 9.5): "the cat", rarity (1/4 + 1/2) / 2 = .375,
    and "the owl" (1/4 + 1) / 2 = .625. Bad (0, 0.5): "the dog" .375, "cat dog" .5: the commonest is "the dog".
    """
    made = divpo({"the cat": 10, "the owl": 9.5, "the dog": 0, "cat dog": 0.5, "the": 5})
    assert answers_in(made) == ["the owl"]
    assert worse_in(made) == ["the dog"]
    (seen,) = evidence_in(made.examples)
    assert seen["chosen"] == {"reward": 9.5, "diversity": 0.625, "origin": "sampled"}
    assert seen["worse"] == {"reward": 0, "diversity": 0.375, "origin": "sampled"}
    assert reasons_in(made) == dict.fromkeys(["the cat", "cat dog", "the"], "not-in-pair")
    best_and_worst = divpo({"the cat": 10, "the owl": 9.5, "the dog": 0, "cat dog": 0.5, "the": 5}, range=0)
    assert (answers_in(best_and_worst), worse_in(best_and_worst)) == (["the cat"], ["the dog"])


def test_equal_answers_make_no_pair():
    llm = AnswersBy(lambda r: "always this")
    made = Divpo(samples=3).generate(
        pool_of(("q", "x")), using=Using(_llm=llm, _judge=rates({"always this": 3})), rng=rng()
    )
    assert made.examples.height == 0
    assert made.refused["reason"].to_list() == ["no-pair"] * 3


def test_given_solutions_make_pairs_of_right_against_wrong():
    pool = pool_with(
        ("2+2?", "it is 4", {"gold": "4"}), ("2+2?", "well, 4", {"gold": "4"}), ("2+2?", "it is 5", {"gold": "4"}),
        ("3+3?", "it is 6", {}),
    )  # fmt: skip
    method = Divpo(candidates="given", reward="reference", reference="gold")
    made = method.generate(pool, using=Using(), rng=rng())
    assert answers_in(made) == ["well, 4"]  # rarer words than "it is 4"
    assert worse_in(made) == ["it is 5"]
    assert reasons_in(made) == {"it is 4": "not-in-pair", "it is 6": "no-reference"}
    assert method.needs == set()


def test_valid_json_is_rewarded_and_the_rarest_attributes_are_chosen():
    schema = {"type": "object", "required": ["name", "home"]}
    answers = [
        '{"name": "Ann", "home": "Rome"}',
        '{"name": "Ann", "home": "Oslo"}',
        '{"name": "Bo", "home": "Lima"}',
        "Ann",
    ]
    llm = AnswersBy(lambda r: answers[r.sampling.index])
    method = Divpo(samples=4, reward="schema", reward_schema=schema, diversity="attributes")
    made = method.generate(pool_of(("A persona.", "x")), using=Using(_llm=llm), rng=rng())
    assert answers_in(made) == [answers[2]]
    assert worse_in(made) == ["Ann"]


def test_diversity_may_be_what_is_unlikely_under_the_writer():
    def score(request: ScoreRequest) -> TokenLogprobs:
        return TokenLogprobs({"a": (-1.0,), "b": (-3.0,), "c": (-2.0,), "d": (-0.5,)}[request.completion])

    llm = AnswersBy(lambda r: "abcd"[r.sampling.index], score)
    using = Using(_llm=llm, _judge=rates({"a": 10, "b": 10, "c": 0, "d": 0}))
    made = Divpo(samples=4, diversity="likelihood").generate(pool_of(("q", "x")), using=using, rng=rng())
    assert (answers_in(made), worse_in(made)) == (["b"], ["d"])


def test_a_judge_may_say_how_unlike_the_others_an_answer_is():
    def say(request) -> str:
        text = request.messages[0].content
        answer = text.split("<answer>\n")[1].split("\n</answer>")[0]
        if "<other_answer>" in text:
            assert text.count("<other_answer>") == 3
            return (
                json.dumps({"reason": "so", "score": {"a": 1, "b": 8, "c": 2}[answer]})
                if answer != "d"
                else "who knows"
            )
        return json.dumps({"reason": "so", "score": {"a": 10, "b": 10, "c": 0, "d": 0}[answer]})

    llm = AnswersBy(lambda r: "abcd"[r.sampling.index])
    method = Divpo(samples=4, diversity="judge")
    made = method.generate(pool_of(("q", "x")), using=Using(_llm=llm, _judge=AnswersBy(say)), rng=rng())
    assert (answers_in(made), worse_in(made)) == (["b"], ["c"])
    assert reasons_in(made) == {"a": "not-in-pair", "d": "undiverse-unparsed"}
    assert [len(calls) for calls in made.examples["calls"]] == [6]  # two answers, two rewards, two diversities


def test_the_flow_runs_on_the_scripted_engine():
    engine = Scripted(
        rules=(
            ReplyRule(pattern=r"(?s)<answer>\nthe owl", reply='{"reason": "rare", "score": 9}'),
            ReplyRule(when="<answer>", reply='{"reason": "common", "score": 2}'),
            ReplyRule(when="Tell", replies=("the cat", "the owl", "the cat")),
        ),
        default="",
    ).open()
    made = Divpo(samples=3).generate(pool_of(("Tell me.", "x")), using=Using(_llm=engine, _judge=engine), rng=rng())
    assert (answers_in(made), worse_in(made)) == (["the owl"], ["the cat"])


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValidationError, match="needs `reference`"):
        Divpo(reward="reference")
    with pytest.raises(ValidationError, match="needs `reward_schema`"):
        Divpo(reward="schema")
    with pytest.raises(ValidationError, match="not a JSON schema"):
        Divpo(reward="schema", reward_schema={"type": 3})
