"""S3FT and SSR: own words where they are right, else a paraphrase, else the given answer; exactly one target each."""

import json

import pytest
from pydantic import ValidationError

from backends.llm.scripted import ReplyRule, Scripted
from backends.protocols import Request
from backends.sandbox.auto import AutoSandbox
from methods.asking.structured import Asking
from methods.generate.self_rehearsal import SelfRehearsal
from schemas.errors import BackendError
from schemas.method import Using
from tests.methods._pools import pool_of, rng
from tests.methods.generate._candidates import answers_in, evidence_in, pool_with, reasons_in
from tests.methods.llm_doubles import AnswersBy, asked_text, failed

POOL = pool_of(("one", "gold one"), ("two", "gold two"), ("three", "gold three"))


def student(request: Request) -> str:
    text = asked_text(request)
    if "<reference>" in text:
        return f"paraphrase {text.split('<reference>')[1].split()[1]}"
    return f"own {text}"


def judge(right: set[str]) -> AnswersBy:
    def verdict(request: Request) -> str:
        answer = request.messages[0].content.split("<answer>\n")[1].split("\n</answer>")[0]
        return json.dumps({"explanation": "so", "answer": "A" if answer in right else "B"})

    return AnswersBy(verdict)


def by_question(made) -> dict[str, str]:
    return {messages[0]["content"]: messages[-1]["content"] for messages in made.examples["messages"]}


def test_each_example_gets_the_first_target_that_is_right():
    using = Using(_student=AnswersBy(student), _judge=judge({"own one", "paraphrase b"}))
    pool = pool_of(("one", "a one"), ("two", "two b"), ("three", "three c"))
    made = SelfRehearsal().generate(pool, using=using, rng=rng())
    assert by_question(made) == {"one": "own one", "two": "paraphrase b", "three": "three c"}
    assert made.notes["target_source"] == {"model": 1, "paraphrase": 1, "gold": 1}
    assert sum(made.notes["target_source_share"].values()) == pytest.approx(1, abs=1e-3)
    assert reasons_in(made) == dict.fromkeys(["own two", "own three", "paraphrase c"], "judged-incorrect")
    calls = {
        e["target_source"]: len(c) for e, c in zip(evidence_in(made.examples), made.examples["calls"], strict=True)
    }
    assert calls == {"model": 2, "paraphrase": 4, "gold": 4}


def test_without_paraphrases_this_is_ssr():
    llm = AnswersBy(student)
    made = SelfRehearsal(paraphrase=False).generate(POOL, using=Using(_student=llm, _judge=judge(set())), rng=rng())
    assert sorted(answers_in(made)) == ["gold one", "gold three", "gold two"]
    assert len(llm.asked) == 3


def test_equal_final_answers_need_no_judge():
    llm = AnswersBy(lambda r: "2 + 2 is 4, so the answer is 4." if "2" in asked_text(r) else "the answer is 9.")
    pool = pool_of(("2+2?", "#### 4"), ("five?", "#### 5"))
    method = SelfRehearsal(check="answer")
    made = method.generate(pool, using=Using(_student=llm), rng=rng())
    assert by_question(made) == {"2+2?": "2 + 2 is 4, so the answer is 4.", "five?": "#### 5"}
    assert set(made.refused["reason"]) == {"wrong-answer"}
    assert method.needs == {"student"}
    assert SelfRehearsal().needs == {"student", "judge"}


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ('{"explanation": "hm", "answer": "C"}', "judge-not-certain"),
        ("no idea", "unjudged-unparsed"),
        (failed("timeout"), "unjudged-timeout"),
    ],
)
def test_what_a_judge_does_not_say_lets_nothing_pass(verdict, reason: str):
    using = Using(_student=AnswersBy(student), _judge=AnswersBy(lambda r: verdict))
    made = SelfRehearsal(paraphrase=False).generate(POOL, using=using, rng=rng())
    assert sorted(answers_in(made)) == ["gold one", "gold three", "gold two"]
    assert set(made.refused["reason"]) == {reason}


def test_a_failed_call_falls_back_on_the_given_answer():
    using = Using(_student=AnswersBy(lambda r: failed("timeout")), _judge=judge(set()))
    made = SelfRehearsal().generate(POOL, using=using, rng=rng())
    assert made.examples.height == 3
    assert made.notes["target_source"] == {"gold": 3}
    assert made.refused["reason"].to_list() == ["call-timeout"] * 6


def test_the_judge_sees_the_reference_and_answers_in_words_where_asked_to():
    engine = Scripted(
        rules=(
            ReplyRule(pattern=r"(?s)<reference>\ngold one.*<answer>\nmine", reply="explanation: the same, answer: A"),
            ReplyRule(when="<answer>", reply="explanation: other, answer: B"),
        ),
        default="mine",
    ).open()
    method = SelfRehearsal(judging=Asking(form="text"), paraphrase=False)
    made = method.generate(POOL, using=Using(_student=engine, _judge=engine), rng=rng())
    assert by_question(made)["one"] == "mine"
    assert made.notes["target_source"] == {"model": 1, "gold": 2}


def test_code_is_right_when_its_tests_pass_in_the_sandbox():
    try:
        sandbox = AutoSandbox().open()
    except BackendError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    gold = "def f(x):\n    return x + 1"
    pool = pool_with(
        ("f?", gold, {"test_list": ["assert f(1) == 2"]}), ("f, g?", gold, {"test_list": ["assert f(1) == 2"]})
    )
    wrong, right = "def f(x):\n    return x", "```python\ndef f(n):\n    return n + 1\n```"
    llm = AnswersBy(lambda r: right if asked_text(r) == "f?" else wrong)
    method = SelfRehearsal(check="tests", tests="test_list")
    made = method.generate(pool, using=Using(_student=llm, _sandbox=sandbox), rng=rng())
    assert by_question(made) == {"f?": right, "f, g?": gold}
    assert made.refused["reason"].to_list() == ["tests-failed"] * 2
    assert evidence_in(made.refused)[0]["said"] == "AssertionError"
    assert method.needs == {"student", "sandbox"}


def test_tests_and_their_field_belong_together():
    with pytest.raises(ValidationError, match="belong together"):
        SelfRehearsal(check="tests")
    with pytest.raises(ValidationError, match="belong together"):
        SelfRehearsal(tests="test_list")
