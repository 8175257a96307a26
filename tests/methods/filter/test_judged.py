"""Filters that ask a judge or the student: ratings with their hygiene, and the use of a context."""

import json

import numpy as np
import pytest

from backends.protocols import Reply, Request, TokenLogprobs
from methods.filter._rating import rating_of
from methods.filter.context_dependency import ContextDependency, with_and_without
from methods.filter.judge import Judge
from methods.measuring.calibration import calibration, kappa, own_family, rogan_gladen, same_family
from schemas.examples import turns
from schemas.method import Using
from tests.methods.filter._rows import conversations, pool
from tests.methods.llm_doubles import AnswersBy

RNG = np.random.default_rng


@pytest.mark.parametrize(
    ("reply", "value"),
    [("4.5\nGood", 4.5), ("Score: 4.5\nok", 4.5), ("score: 3\nok", 3.0), ("Score:4\nx", 4.0), ("4/5\nx", None), ("5", 5.0),
     ("Rating 4", None), ("I would say 4", None), ("", None), ("7", None)],
)  # fmt: skip
def test_a_rating_is_read_or_it_is_not(reply: str, value: float | None) -> None:
    assert rating_of(reply) == value, "the official parser fails on 'Score: 4.5' (fixed) and defaults to -1 (never)"


def rater(request: Request) -> str | Reply:
    text = request.messages[0].content
    if "broken" in text:
        return "well, rather good"
    if "down" in text:
        return Reply(failure="server-error", finish_reason="error")
    answer = text.split("Answer: ")[1].split("\n")[0]
    question = text.split("Question: ")[1].split("\n")[0]
    fits = answer.lower() == question.lower().removeprefix("say ")
    if "style" in text:
        return "3\nplain"
    return "5\nright" if fits else "1\nwrong"


def test_ratings_decide_failures_are_quarantined_and_canaries_sing() -> None:
    rows = pool(("Say one", "one"), ("Say two", "three"), ("Say four", "four"), ("broken", "x"), ("down", "y"))
    method = Judge(canaries=4)
    verdicts = method.judge(rows, using=Using(_judge=AnswersBy(rater)), rng=RNG(0))
    assert verdicts["fate"].to_list() == ["keep", "reject", "keep", "quarantine", "quarantine"]
    assert verdicts["reason"].to_list() == [None, "low-rating", None, "rating-unparsed", "rating-call-failed"]
    assert verdicts["score"].to_list() == [5.0, 1.0, 5.0, None, None]
    audit = method.audit(rows, verdicts)
    assert audit["ratings"] == {"1": 1, "5": 2}
    assert audit["not rated"] == 2
    assert audit["canaries: another answer rated lower"]["yes"] >= 1


def test_the_lowest_aspect_decides() -> None:
    rows = pool(("Say one", "one"))
    both = Judge(aspects=("accuracy", "style"), canaries=0, min_rating=4)
    verdicts = both.judge(rows, using=Using(_judge=AnswersBy(rater)), rng=RNG(0))
    assert verdicts["score"].to_list() == [3.0]
    assert json.loads(verdicts["evidence"][0])["ratings"] == {"accuracy": 5.0, "style": 3.0}


def test_a_name_that_tells_no_family_is_unknown_not_different() -> None:
    assert same_family("models/sprout", "sprout") is True
    assert same_family("my-judge", "sprout") is None
    assert same_family("my-judge", "org/My-Judge@r2") is True, "one name, one model"
    assert same_family("", "") is None, "two that have no name are not one"
    assert same_family("mixtral-8x7b-instruct", "Mistral-7B-v0.3") is True


@pytest.mark.parametrize("writers", [("gpt-4", "Qwen2.5-7B", "my-model", "ours-7b@r1")])
@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("chatgpt-4o-latest", ("yes", "no", "unknown", "unknown")),
        ("ours-7b", ("unknown", "unknown", "unknown", "yes")),
        ("", ("unknown", "unknown", "unknown", "unknown")),
    ],
)
def test_the_audit_says_whose_family_the_judge_is_of_and_unknown_where_no_name_tells(
    writers: tuple[str, ...], judge: str, said: tuple[str, ...]
) -> None:
    rows = pool(("Say one", "one"))
    method = Judge(canaries=0, written_by=writers)
    verdicts = method.judge(rows, using=Using(_judge=AnswersBy(lambda _: Reply("5", model=judge))), rng=RNG(0))
    told = method.audit(rows, verdicts)
    assert told["judge"] == (judge or "unknown"), "an engine that counts by its weights is called what its replies say"
    assert told["judge of the writers' own family"] == dict(zip(writers, said, strict=True))
    assert own_family(judge, writers) == told["judge of the writers' own family"]


def test_a_judge_is_measured_against_human_labels() -> None:
    labels = [True, True, False, None]
    rows = pool(
        ("Say one", "one"), ("Say two", "three"), ("Say four", "six"), ("Say five", "five"),
        extra=[json.dumps({"good": label}) if label is not None else None for label in labels],
    )  # fmt: skip
    method = Judge(label_field="good", canaries=0, written_by=("gpt-4",))
    verdicts = method.judge(rows, using=Using(_judge=AnswersBy(rater)), rng=RNG(0))
    told = method.audit(rows, verdicts)["against human labels"]
    assert told["labelled"] == 3
    assert told["true positive rate"]["estimate"] == 0.5
    assert told["true negative rate"]["estimate"] == 1.0
    assert told["share it calls good"] == 0.5
    assert told["share corrected"] == 1.0, "it misses half of the good ones: (0.5 + 1 - 1) / (0.5 + 1 - 1)"


def test_rogan_gladen_recovers_the_true_share_on_simulated_judges() -> None:
    rng = RNG(0)
    truth = rng.random(20_000) < 0.3
    said = np.where(truth, rng.random(20_000) < 0.8, rng.random(20_000) < 0.1)
    assert rogan_gladen(float(said.mean()), 0.8, 0.9) == pytest.approx(0.3, abs=0.02)
    assert kappa([(True, False), (False, True)]) == -1.0
    assert calibration([], []) == {"labelled": 0}


def test_a_context_that_is_worth_nothing_is_not_used() -> None:
    def score(request) -> TokenLogprobs:
        given = " ".join(turn.content for turn in request.messages)
        per = -0.5 if "the door is red" in given and "red" in request.completion else -2.0
        return TokenLogprobs((per, per))

    rows = conversations(
        turns(("system", "the door is red"), ("user", "Which colour?"), ("assistant", "red")),
        turns(("user", "Which colour?\n\nthe door is red"), ("assistant", "blue")),
        turns(("user", "Which colour?"), ("assistant", "red")),
    )
    verdicts = ContextDependency(min_gain=0.1).judge(rows, using=Using(_student=AnswersBy(str, score)), rng=RNG(0))
    assert verdicts["reason"].to_list() == [None, "context-not-used", None]
    assert verdicts["score"].to_list() == [1.5, 0.0, None], "(2 x 2.0 - 2 x 0.5) / 2 nats a token"


def test_what_counts_as_a_context() -> None:
    assert with_and_without(turns(("user", "Q"), ("assistant", "A"))) is None
    full, bare = with_and_without(turns(("user", "Do it\n\nwith this"), ("assistant", "A")))
    assert [t.content for t in full.messages] == ["Do it\n\nwith this"]
    assert [t.content for t in bare.messages] == ["Do it"]
