"""RAFT: local and top, three scorers, ties, failures without a score, structured ratings."""

import json

import pytest
from pydantic import ValidationError

from backends.llm.scripted import ReplyRule, ScoreRule, Scripted
from backends.protocols import Request
from methods.asking.sampling import Draw
from methods.asking.structured import Asking
from methods.generate.best_of_n import BestOfN
from schemas.method import Using
from tests.methods._pools import example_id, pool_of, rng
from tests.methods.generate._candidates import answers_in, evidence_in, pool_with, reasons_in
from tests.methods.llm_doubles import AnswersBy, asked_text

QUESTIONS = pool_of(("Name a river.", "The Seine."), ("Name a lake.", "The Ladoga."))


def judge(ratings: dict[str, float | str]) -> AnswersBy:
    """Rates by the answer's text."""

    def rate(request: Request) -> str:
        text = request.messages[0].content.split("<answer>\n")[1].split("\n</answer>")[0]
        value = ratings[text]
        return value if isinstance(value, str) else json.dumps({"reason": "so", "score": value})

    return AnswersBy(rate)


def teacher(**answers: list[str]) -> AnswersBy:
    """Answers by the last word of the question and the sample's number."""
    return AnswersBy(lambda r: answers[asked_text(r).split()[-1].strip(".")][r.sampling.index])


def test_the_best_of_each_question_is_kept_and_the_others_say_by_how_much_they_lost():
    llm = teacher(river=["Loire", "Rhine", "Po"], lake=["Como", "Garda", "Iseo"])
    ratings = {"Loire": 3, "Rhine": 8, "Po": 5, "Como": 9, "Garda": 9, "Iseo": 1}
    made = BestOfN(samples=3).generate(QUESTIONS, using=Using(_llm=llm, _judge=judge(ratings)), rng=rng())
    assert sorted(answers_in(made)) == ["Como", "Rhine"]  # a tie goes to the earlier sample
    assert {text: reason for text, reason in reasons_in(made).items()} == dict.fromkeys(
        ["Loire", "Po", "Garda", "Iseo"], "outscored"
    )
    assert made.notes["mean_score_all"] == pytest.approx((3 + 8 + 5 + 9 + 9 + 1) / 6, abs=1e-6)
    assert made.notes["mean_score_kept"] == 8.5
    seen = next(e for e in evidence_in(made.examples) if e["score"] == 8)
    assert seen["ratings"] == [8]
    assert seen["candidates"] == 3
    assert (made.examples["calls"].list.len() == 2).all()  # the answer and its rating


def test_the_top_share_is_taken_over_all_questions_and_prefers_the_easy_one():
    llm = teacher(river=["Loire"], lake=["Como"])
    using = Using(_llm=llm, _judge=judge({"Loire": 3, "Como": 4}))
    made = BestOfN(samples=1, strategy="top", share=0.5).generate(QUESTIONS, using=using, rng=rng())
    assert answers_in(made) == ["Como"]
    assert reasons_in(made) == {"Loire": "below-top-share"}


def test_a_rating_that_cannot_be_read_is_a_class_and_never_a_score():
    llm = teacher(river=["Loire", "Rhine"], lake=["Como", "Garda"])
    ratings = {"Loire": "eleven of ten", "Rhine": 1, "Como": "no", "Garda": '{"reason": "x", "score": 99}'}
    made = BestOfN(samples=2).generate(QUESTIONS, using=Using(_llm=llm, _judge=judge(ratings)), rng=rng())
    assert answers_in(made) == ["Rhine"]
    assert set(reasons_in(made).values()) == {"unscored-unparsed"}
    assert made.refused.height == 3


def test_a_rating_in_words_is_read_from_its_line():
    llm = teacher(river=["Loire", "Rhine"], lake=["Como", "Garda"])
    ratings = {"Loire": "reason: short, score: 2", "Rhine": "score: 7", "Como": "score: 1", "Garda": "Score: 6.5/10"}
    method = BestOfN(samples=2, judging=Asking(form="text"))
    rated = judge(ratings)
    made = method.generate(QUESTIONS, using=Using(_llm=llm, _judge=rated), rng=rng())
    assert sorted(answers_in(made)) == ["Garda", "Rhine"]
    assert all(r.sampling.json_schema is None and "score: <number>" in asked_text(r) for r in rated.asked)


def test_the_student_scores_by_likelihood_per_token():
    """The word "short" and the end cost 1 nat each; the tokens of the longer answer 0.5 each: per token it wins."""
    student = Scripted(
        default="",
        scores=(
            ScoreRule(when="a longer answer", logprobs=(-0.5, -0.5, -0.5, -0.5)),
            ScoreRule(when="short", logprobs=(-1.0, -1.0)),
        ),
    ).open()
    pool = pool_of(("Say.", "short"), ("Say.", "a longer answer"))
    method = BestOfN(candidates="given", scorer="student")
    made = method.generate(pool, using=Using(_student=student), rng=rng())
    assert answers_in(made) == ["a longer answer"]
    assert evidence_in(made.examples)[0]["score"] == -0.5
    assert method.needs == {"student"}


def test_answers_that_agree_outvote_the_one_that_does_not():
    silent = "there is really no telling what this could be"
    llm = AnswersBy(lambda r: ["so #### 5", "it is #### 4", "The answer is 4.", silent][r.sampling.index])
    made = BestOfN(samples=4, scorer="agreement").generate(QUESTIONS.head(1), using=Using(_llm=llm), rng=rng())
    assert answers_in(made) == ["it is #### 4"]
    assert evidence_in(made.examples)[0]["votes"] == "2 of 3"
    assert reasons_in(made)[silent] == "unscored-no-final-answer"


def test_a_best_answer_below_the_minimum_is_refused_too():
    llm = teacher(river=["Loire"], lake=["Como"])
    using = Using(_llm=llm, _judge=judge({"Loire": 3, "Como": 4}))
    made = BestOfN(samples=1, min_score=3.5).generate(QUESTIONS, using=using, rng=rng())
    assert reasons_in(made) == {"Loire": "below-min-score"}


def test_wrong_answers_are_not_rated_where_a_reference_is_known():
    pool = pool_with(("Two and two?", "4", {"truth": "4"}))
    llm = AnswersBy(lambda r: ["five: 5", "four: 4"][r.sampling.index])
    rated = judge({"four: 4": 1})
    method = BestOfN(samples=2, reference="truth")
    made = method.generate(pool, using=Using(_llm=llm, _judge=rated), rng=rng())
    assert answers_in(made) == ["four: 4"]
    assert reasons_in(made) == {"five: 5": "wrong-answer"}
    assert len(rated.asked) == 1


def test_parents_are_all_examples_it_was_chosen_against():
    pool = pool_of(("Name a river.", "Loire"), ("Name a river.", "Rhine"), ("Name a river.", "Po"))
    using = Using(_judge=judge({"Loire": 3, "Rhine": 8, "Po": 5}))
    made = BestOfN(candidates="given").generate(pool, using=using, rng=rng())
    (parents,) = made.examples["parents"].to_list()
    assert parents[0] == example_id(1)
    assert set(parents) == set(pool["id"])


def test_the_whole_flow_runs_on_the_scripted_engine():
    engine = Scripted(
        rules=(
            ReplyRule(pattern=r"(?s)<answer>\nRhine", reply='{"reason": "a river", "score": 9}'),
            ReplyRule(when="<answer>", reply='{"reason": "no", "score": 2}'),
            ReplyRule(when="Name a", replies=("Loire", "Rhine")),
        ),
        default="",
    ).open()
    made = BestOfN(samples=2).generate(QUESTIONS, using=Using(_llm=engine, _judge=engine), rng=rng())
    assert answers_in(made) == ["Rhine", "Rhine"]


def test_a_recipe_may_demand_json_of_the_answers_and_what_does_not_fit_is_a_class():
    """The engine is given the schema and checks it; a reply that does not fit it costs only itself."""
    engine = Scripted(
        rules=(
            ReplyRule(when="<answer>", reply='{"reason": "fits", "score": 5}'),
            ReplyRule(when="Name a", replies=('{"name": "Loire"}', "Loire", '{"nom": "Loire"}')),
        ),
        default="",
    ).open()
    schema = {"type": "object", "required": ["name"]}
    method = BestOfN.model_validate({"samples": 3, "draw": {"temperature": 0.8, "json_schema": schema}})
    made = method.generate(QUESTIONS.head(1), using=Using(_llm=engine, _judge=engine), rng=rng())
    assert answers_in(made) == ['{"name": "Loire"}']
    assert made.refused["reason"].to_list() == ["call-wrong-schema"] * 2


def test_votes_of_a_greedy_judge_are_refused_as_a_setting():
    with pytest.raises(ValidationError, match="one vote"):
        BestOfN(votes=3)
    BestOfN(votes=3, judging=Asking(draw=Draw(temperature=0.7)))


def test_needs_follow_the_settings():
    assert BestOfN.needs == {"llm", "student", "judge"}
    assert BestOfN().needs == {"llm", "judge"}
    assert BestOfN(scorer="agreement").needs == {"llm"}
    assert BestOfN(scorer="agreement", candidates="given").needs == set()
    assert BestOfN(scorer="agreement", writer="student").needs == {"student"}
