"""Rationales, critiques, reflections, response tuning and back-translation: the shape of the rows, and what is refused."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from backends.llm.scripted import ReplyRule, Scripted
from backends.protocols import Reply, Request
from methods.asking.parsing import Unparsed
from methods.generate.back_translation import BackTranslation
from methods.generate.critique import Critique, read_critique
from methods.generate.rationales import Demonstration, Rationales, Reasoned, read_reasoning
from methods.generate.reflection import Reflection, read_reflection
from methods.generate.response_tuning import ResponseTuning
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods._pools import example_id, pool_of, rng
from tests.methods.generate._candidates import answers_in, evidence_in, pool_with, reasons_in, with_system
from tests.methods.llm_doubles import AnswersBy, asked_text, failed

SUM = pool_of(("2+2?", "4"), ("3+3?", "6"))
REASONING = "Two and two make four. So the answer is 4."


def rows_in(made) -> list[tuple[str, str]]:
    return sorted((messages[-2]["content"], messages[-1]["content"]) for messages in made.examples["messages"])


# Rationales.


def test_each_example_yields_an_answer_row_and_a_reasoning_row_of_one_pair():
    made = Rationales().generate(SUM.head(1), using=Using(_llm=AnswersBy(lambda r: REASONING)), rng=rng())
    assert rows_in(made) == [("explain: 2+2?", "Two and two make four."), ("predict: 2+2?", "4")]
    seen = evidence_in(made.examples)
    assert {e["pair"] for e in seen} == {example_id(0).hex()}
    assert {e["task"]: e["weight"] for e in seen} == {"predict": 0.5, "explain": 0.5}


def test_all_weight_on_answers_is_plain_fine_tuning_and_asks_nobody():
    method = Rationales(label_weight=1)
    made = method.generate(SUM, using=Using(), rng=rng())
    assert rows_in(made) == [("predict: 2+2?", "4"), ("predict: 3+3?", "6")]
    assert method.needs == set()
    only = Rationales(label_weight=0).generate(SUM.head(1), using=Using(_llm=AnswersBy(lambda r: REASONING)), rng=rng())
    assert rows_in(only) == [("explain: 2+2?", "Two and two make four.")]


def test_reasoning_towards_another_answer_is_refused_unless_the_teachers_answer_is_what_is_learned():
    wrong = AnswersBy(lambda r: "Two and two make five. So the answer is 5.")
    made = Rationales().generate(SUM.head(1), using=Using(_llm=wrong), rng=rng())
    assert made.examples.height == 0
    assert reasons_in(made) == {"Two and two make five.": "other-answer"}
    taught = Rationales(label="llm").generate(SUM.head(1), using=Using(_llm=wrong), rng=rng())
    assert ("predict: 2+2?", "5") in rows_in(taught)
    unchecked = Rationales(check=False).generate(SUM.head(1), using=Using(_llm=wrong), rng=rng())
    assert ("predict: 2+2?", "4") in rows_in(unchecked)


@pytest.mark.parametrize(
    ("form", "answer"),
    [("answer-first", "4\n\nTwo and two make four."), ("rationale-first", "Two and two make four.\n\n4")],
)
def test_both_may_stand_in_one_row(form: str, answer: str):
    made = Rationales(form=form).generate(SUM.head(1), using=Using(_llm=AnswersBy(lambda r: REASONING)), rng=rng())
    assert rows_in(made) == [("2+2?", answer)]


def test_reasoning_without_an_answer_is_asked_for_again_and_then_refused():
    llm = AnswersBy(lambda r: "I would rather not say.")
    made = Rationales(tries=3).generate(SUM.head(1), using=Using(_llm=llm), rng=rng())
    assert made.refused["reason"].to_list() == ["no-stated-answer"]
    assert len(llm.asked) == 3
    assert made.notes["unread"] == {"unparsed": 1}


def test_demonstrations_and_the_known_answer_stand_in_the_prompt():
    llm = AnswersBy(lambda r: REASONING)
    shown = Demonstration(question="1+1?", rationale="One and one.", answer="2")
    Rationales(demonstrations=(shown,), show_answer=True).generate(SUM.head(1), using=Using(_llm=llm), rng=rng())
    text = asked_text(llm.asked[0])
    assert "<question>\n1+1?\n</question>\nOne and one. So the answer is 2.\n</example>" in text
    assert "<known_answer>\n4\n</known_answer>" in text


def test_reasoning_is_what_stands_before_the_stated_answer():
    assert read_reasoning("We halve. The answer is 3.") == Reasoned(rationale="We halve.", answer="3")
    assert read_reasoning("The answer is 3.") == Unparsed("there is no reasoning before the answer")
    assert isinstance(read_reasoning("We halve, then 3."), Unparsed)


# Critiques.


def critic(verdict: dict[str, str]) -> AnswersBy:
    def say(request: Request) -> str:
        solution = asked_text(request).split("<solution>\n")[1].split("\n</solution>")[0]
        return f"I looked at it.\nConclusion: {verdict[solution]} [END]"

    return AnswersBy(say)


def test_a_row_asks_for_a_critique_and_answers_with_one_that_ends_in_its_verdict():
    llm = critic({"4": "right", "6": "right"})
    made = Critique().generate(SUM, using=Using(_llm=llm), rng=rng())
    assert rows_in(made)[0] == ("Question:\n2+2?\n\nSolution:\n4", "I looked at it.\n\nConclusion: right")
    assert llm.asked[0].messages[0].role == "system"
    assert made.notes["verdict_right_share"] == 1.0
    assert (made.notes["verified"], made.notes["verdict_true_share"]) == (0, None)


def test_a_verdict_that_is_known_to_be_false_is_refused():
    pool = pool_with(("2+2?", "is 4", {"gold": "4"}), ("2+2?", "is 5", {"gold": "4"}), ("2+2?", "was 5", {"gold": "4"}))
    llm = critic({"is 4": "right", "is 5": "wrong", "was 5": "right"})
    made = Critique(reference="gold").generate(pool, using=Using(_llm=llm), rng=rng())
    assert made.examples.height == 2
    assert made.refused["reason"].to_list() == ["false-verdict"]
    assert made.notes["verdict_true_share"] == pytest.approx(2 / 3, abs=1e-6)
    kept = Critique(reference="gold", verify=False).generate(pool, using=Using(_llm=llm), rng=rng())
    assert kept.examples.height == 3


def test_sampled_solutions_are_verified_by_the_examples_own_answer():
    def say(request: Request) -> str:
        text = asked_text(request)
        return "Looked.\nConclusion: right" if "<solution>" in text else "it is 5"

    made = Critique(candidates="sampled").generate(SUM.head(1), using=Using(_llm=AnswersBy(say)), rng=rng())
    assert made.refused["reason"].to_list() == ["false-verdict"]


def test_a_critique_without_a_verdict_is_asked_for_again_and_then_refused():
    llm = AnswersBy(lambda r: "Nice work.")
    made = Critique().generate(SUM.head(1), using=Using(_llm=llm), rng=rng())
    assert made.refused["reason"].to_list() == ["no-verdict"]
    assert len(llm.asked) == 2
    lost = Critique().generate(SUM.head(1), using=Using(_llm=AnswersBy(lambda r: failed("timeout"))), rng=rng())
    assert lost.refused["reason"].to_list() == ["call-timeout"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Conclusion: right", "there is no critique before the conclusion"),
        ("Fine.\nConclusion: right\nBut then again, no.", "words follow the conclusion"),
        ("Fine. Conclusion: maybe", 'it does not end with "Conclusion: right" or "Conclusion: wrong"'),
    ],
)
def test_what_is_no_critique_says_why(text: str, why: str):
    assert read_critique(text) == Unparsed(why)


# Reflections.

REFLECTED = "Alternative Reasoning: Count on: 3, 4. The answer is 4.\nFollow-up Reasoning: n + n is 2n."


def test_the_answer_stays_letter_by_letter_in_front_of_the_reflection():
    answer = "  4,\n since 2+2 "
    llm = AnswersBy(lambda r: REFLECTED)
    made = Reflection().generate(pool_of(("2+2?", answer)), using=Using(_llm=llm), rng=rng())
    (text,) = answers_in(made)
    assert text.startswith(f"{answer}\n\nReflection:\nAlternative Reasoning:\nCount on")
    assert [text.count(mark) for mark in ("Reflection:", "Alternative Reasoning:", "Follow-up Reasoning:")] == [1, 1, 1]


def test_an_alternative_that_comes_to_another_answer_is_refused():
    llm = AnswersBy(lambda r: REFLECTED.replace("answer is 4", "answer is 5"))
    made = Reflection().generate(SUM.head(1), using=Using(_llm=llm), rng=rng())
    assert made.refused["reason"].to_list() == ["other-answer"]
    assert evidence_in(made.refused)[0]["stated"] == "5"
    assert Reflection(check=False).generate(SUM.head(1), using=Using(_llm=llm), rng=rng()).examples.height == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("No marks at all.", "marks-missing"),
        ("Follow-up Reasoning: a\nAlternative Reasoning: b", "marks-missing"),
        ("Alternative Reasoning:\nFollow-up Reasoning: b", "marks-missing"),
        (REFLECTED + "\nFollow-up Reasoning: again", "marks-missing"),
        (Reply(text=REFLECTED, finish_reason="length"), "cut-off"),
        (failed("server-error"), "call-server-error"),
    ],
)
def test_a_reflection_needs_both_marks_once_in_order_and_an_end(text, reason: str):
    made = Reflection().generate(SUM.head(1), using=Using(_llm=AnswersBy(lambda r: text)), rng=rng())
    assert made.refused["reason"].to_list() == [reason]


def test_an_answer_that_holds_a_reflection_already_is_refused_and_not_asked_about():
    llm = AnswersBy(lambda r: REFLECTED)
    made = Reflection().generate(pool_of(("q", "4\n\nReflection:\nx")), using=Using(_llm=llm), rng=rng())
    assert made.refused["reason"].to_list() == ["already-reflected"]
    assert llm.asked == []


def test_emphasis_around_the_marks_is_dropped():
    assert read_reflection("## **Alternative Reasoning**: a\n\n**Follow-up Reasoning:** b") == (
        "Alternative Reasoning:\na\n\nFollow-up Reasoning:\nb"
    )


# Response tuning.


def test_only_the_responses_stay_one_row_for_each():
    made = ResponseTuning().generate(with_system(SUM, "Be brief."), using=Using(), rng=rng())
    assert [[turn["role"] for turn in messages] for messages in made.examples["messages"]] == [["assistant"]] * 2
    assert sorted(answers_in(made)) == ["4", "6"]
    kept = ResponseTuning(empty_prompt=True).generate(SUM, using=Using(), rng=rng())
    assert rows_in(kept) == [("", "4"), ("", "6")]
    assert ResponseTuning().needs == set()


def test_refusals_of_the_safety_source_are_mixed_in_by_words_not_by_letters():
    answers = ["Sorry, no.", "As an AI I cannot.", "She said yes.", "Sure.", "plain"]
    sources = ["safe", "safe", "safe", "safe", "main"]
    pool = pool_of(*[("q", answer) for answer in answers], source=sources)
    made = ResponseTuning(safety_source="safe").generate(pool, using=Using(), rng=rng())
    assert sorted(answers_in(made)) == ["As an AI I cannot.", "Sorry, no.", "plain"]
    assert set(made.refused["reason"]) == {"no-refusal"}
    official = ResponseTuning(safety_source="safe", compat="official").generate(pool, using=Using(), rng=rng())
    assert "She said yes." in answers_in(official)
    one = ResponseTuning(safety_source="safe", safety_examples=1).generate(pool, using=Using(), rng=rng())
    assert one.examples.height == 2
    assert sorted(one.refused["reason"]) == ["no-refusal", "no-refusal", "refusal-not-drawn"]
    with pytest.raises(UsageError, match="none of 5 examples is of the source 'sfe'; there are main, safe"):
        ResponseTuning(safety_source="sfe").generate(pool, using=Using(), rng=rng())


def test_responses_may_be_rewritten_first():
    llm = AnswersBy(lambda r: failed("timeout") if "3+3" in asked_text(r) else "Four.")
    method = ResponseTuning(refine=True)
    made = method.generate(SUM, using=Using(_llm=llm), rng=rng())
    assert answers_in(made) == ["Four."]
    assert made.refused["reason"].to_list() == ["call-timeout"]
    assert evidence_in(made.examples)[0]["before"] == "4"
    assert method.needs == {"llm"}


# Back-translation.


class Entails:
    """Says with a table how likely a premise entails a hypothesis; 0.9 otherwise."""

    def __init__(self, chances: dict[tuple[str, str], float]):
        self.chances = chances

    def identity(self):
        return {"backend": "entails"}

    def judge(self, pairs):
        chances = [self.chances.get(pair, 0.9) for pair in pairs]
        return np.array([[0.0, 1 - chance, chance] for chance in chances]).reshape(-1, 3)


class Along:
    """Texts on a circle, by a table of angles in degrees."""

    def __init__(self, angles: dict[str, float]):
        self.angles = angles

    def identity(self):
        return {"backend": "along"}

    def embed(self, texts):
        turned = np.radians([self.angles.get(text, 40.0) for text in texts])
        return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def translator(back: dict[str, str]) -> AnswersBy:
    """Into a language: its name in front; back into English: as the table says, by language."""

    def translate(request: Request) -> str:
        text = asked_text(request).split("<text>\n")[1].split("\n</text>")[0]
        language = asked_text(request).rsplit("Language: ", 1)[1].strip()
        return back[text.split(":")[0]] if language == "English" else f"{language}: {text}"

    return AnswersBy(translate)


QUESTION = pool_of(("Why is the sky blue?", "Because of scattering."))


def back_translated(back: dict[str, str], *, nli=None, angles=None, **fields):
    method = BackTranslation(pivots=tuple(back), **fields)
    using = Using(
        _llm=translator(back), _nli=nli or Entails({}), _embed=Along({"Why is the sky blue?": 0, **(angles or {})})
    )
    return method.generate(QUESTION, using=using, rng=rng())


def test_a_question_in_other_words_gets_the_same_answer():
    made = back_translated({"German": "What makes the sky blue?", "French": "Why do we see a blue sky?"})
    assert rows_in(made) == [
        ("What makes the sky blue?", "Because of scattering."),
        ("Why do we see a blue sky?", "Because of scattering."),
    ]
    (seen, _) = evidence_in(made.examples)
    assert seen["group"] == example_id(0).hex()
    assert (seen["pivot"], seen["abroad"]) == ("German", "German: Why is the sky blue?")
    assert seen["cosine"] == pytest.approx(np.cos(np.radians(40)), abs=1e-4)
    assert (made.examples["calls"].list.len() == 2).all()


def test_every_version_that_is_not_taken_has_its_reason():
    made = back_translated(
        {"German": "why is  the sky blue?", "French": "Fish?", "Dutch": "Fish!", "Danish": "Near.", "Welsh": "Far."},
        nli=Entails({("Fish?", "Why is the sky blue?"): 0.1, ("Why is the sky blue?", "Fish!"): 0.2}),
        angles={"Near.": 1, "Far.": 89},
    )
    assert made.examples.height == 0
    assert reasons_in(made) == {
        "why is  the sky blue?": "equals-the-question", "Fish?": "not-entailed", "Fish!": "not-entailed",
        "Near.": "too-close", "Far.": "too-far",
    }  # fmt: skip


def test_the_example_itself_may_stand_in_its_group_and_repeats_are_refused():
    made = back_translated({"German": "Same.", "French": "Same."}, include_given=True)
    assert rows_in(made) == [("Same.", "Because of scattering."), ("Why is the sky blue?", "Because of scattering.")]
    assert reasons_in(made) == {"Same.": "repeats-version"}
    assert {e["group"] for e in evidence_in(made.examples)} == {example_id(0).hex()}


def test_an_instruction_is_written_for_an_answer_and_kept_where_a_judge_likes_the_pair():
    llm = AnswersBy(lambda r: ["Explain the sky.", "Sing.", "Dance."][r.sampling.index])
    scores = {
        "Explain the sky.": '{"reason": "fits", "score": 9}',
        "Sing.": '{"reason": "no", "score": 1}',
        "Dance.": "?",
    }
    judge = AnswersBy(lambda r: scores[r.messages[0].content.split("<question>\n")[1].split("\n</question>")[0]])
    method = BackTranslation(write="instruction", versions=3)
    made = method.generate(QUESTION, using=Using(_llm=llm, _judge=judge), rng=rng())
    assert rows_in(made) == [("Explain the sky.", "Because of scattering.")]
    assert reasons_in(made) == {"Sing.": "low-rating", "Dance.": "unrated-unparsed"}
    assert method.needs == {"llm", "judge"}


def test_settings_of_back_translation_that_cannot_work_are_refused():
    for fields, why in (
        ({"min_similarity": 0.9, "max_similarity": 0.1}, "nothing could pass"),
        ({"pivots": ("German", "German")}, "each named once"),
        ({"versions": 2, "draw": {"temperature": 0}}, "one version"),
    ):
        with pytest.raises(ValidationError, match=why):
            BackTranslation.model_validate(fields)
    assert BackTranslation().needs == {"llm", "nli", "embed"}
    assert BackTranslation(min_entailment=None, compare=False).needs == {"llm"}


def test_flows_run_on_the_scripted_engine():
    engine = Scripted(
        rules=(
            ReplyRule(when="Conclusion: right", reply="It adds up.\nConclusion: right"),
            ReplyRule(when="Follow-up Reasoning:", reply="Alternative Reasoning: a\nFollow-up Reasoning: b"),
            ReplyRule(when="So the answer is <answer>", reply="It adds up. So the answer is 4."),
        ),
        default=json.dumps({}),
    ).open()
    for method in (Critique(), Reflection(), Rationales()):
        assert method.generate(SUM.head(1), using=Using(_llm=engine), rng=rng()).examples.height > 0
