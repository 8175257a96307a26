"""A judge's preference as a metric, worked by hand: both orders, equal answers, unread replies, and what is reported."""

import numpy as np
import pytest

from backends.protocols import Reply
from methods.measuring.evaluation import evaluate
from methods.measuring.preferred import Names, PairwiseJudge, told
from schemas.errors import UsageError
from tests.methods.measuring.test_evaluation import Known, ask, frame


class Judge:
    """Says what ``prefers`` gives for the two shown answers; remembers how often it was asked."""

    def __init__(self, prefers) -> None:
        self.prefers, self.asked = prefers, 0

    def identity(self):
        return {"backend": "known"}

    def generate(self, requests):
        self.asked += len(requests)
        return [self._reply(request.messages[0].content) for request in requests]

    def _reply(self, text: str) -> Reply:
        first, second = text.split("Answer A: ")[1].split("\n\nAnswer B: ")
        said = self.prefers(first, second.split("\n\nWhich answer is better?")[0])
        return Reply(failure="timeout") if said is None else Reply(text=f"reason: because, verdict: {said}")

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]


def longer(first: str, second: str) -> str:
    return "A" if len(first) > len(second) else "B" if len(second) > len(first) else "tie"


POOL = frame(("a", ask("one", "ref")), ("a", ask("two", "reference")), ("b", ask("three", "r")))
TUNED = {"one": "longer one", "two": "short", "three": "same"}
BASE = {"one": "short one", "two": "longer two", "three": "same"}


def measured(prefers, **changes):
    judge = Judge(prefers)
    result = evaluate(
        Known(0.0, TUNED), POOL, rng=np.random.default_rng(0), metrics=("pairwise",), baseline=Known(0.0, BASE),
        judge=judge, pairwise=PairwiseJudge(**changes), names=Names(judge="gpt-4o", writer="gpt-2"),
    )  # fmt: skip
    return result, judge


def test_the_trained_model_stands_against_the_base_and_both_against_the_reference() -> None:
    result, judge = measured(longer)
    report, examples = result.report, result.examples
    # tuned against base: longer, shorter, equal (a tie nobody was asked about)
    assert examples["win_base"].to_list() == [1.0, 0.0, 0.5]
    assert report.of("win-rate-base").value == pytest.approx(0.5)
    assert report.of("win-rate-base").before is None, "the base is not compared with itself"
    # tuned against reference: 10 > 3, 5 < 9, 4 > 1; base: 9 > 3, 10 > 9, 4 > 1
    assert examples["win_reference"].to_list() == [1.0, 0.0, 1.0]
    assert examples["before_win_reference"].to_list() == [1.0, 1.0, 1.0]
    reference = report.of("win-rate-reference")
    assert (reference.value, reference.before) == (pytest.approx(2 / 3), 1.0)
    assert reference.change == pytest.approx(-1 / 3)
    assert report.of("win-rate-reference", "source=b").value == 1.0
    assert judge.asked == 2 * (2 + 3 + 3), "both orders of every pair whose answers differ"


def test_a_judge_that_holds_to_the_place_decides_nothing_and_is_found_out() -> None:
    result, _ = measured(lambda first, second: "A", against=("base",))
    assert result.report.of("win-rate-base").value == 0.5
    assert result.judged is not None
    (note,) = result.judged.notes
    assert note["counts"] == {"win": 0, "loss": 0, "tie": 1, "inconsistent": 2, "unread": 0}
    assert (note["flips"]["estimate"], note["stayed_first"]) == (1.0, 2), "the equal pair was never shown"
    assert "100 % of verdicts stayed with the place" in " ".join(told(note))
    assert told(note)[1] == "no pair was decided: the rate of one half says nothing"
    assert "win_reference" not in result.examples.columns


def test_a_judge_that_prefers_length_is_shown_to_do_so() -> None:
    result, _ = measured(longer, against=("base",))
    assert result.judged is not None
    (note,) = result.judged.notes
    assert (note["length"]["decided"], note["length"]["longer_won"]) == (2, 2)
    assert "the longer answer won 2 of 2 decided pairs" in " ".join(told(note))
    # Wilson's interval of 1 of 2: (1/2 + z²/4 ± z √(1/8 + z²/16)) / (1 + z²/2) with z = 1.96, so .095 to .905
    assert told(note)[1] == "of the 2 decided pairs it won 50 % (95 % interval 9 to 91 %)"


def test_what_cannot_be_read_is_a_class_and_not_a_half() -> None:
    result, _ = measured(lambda first, second: None if "two" in first + second else "B", against=("base",))
    assert result.examples["win_base"].to_list() == [0.5, None, 0.5]
    assert result.report.of("win-rate-base").examples == 2
    assert result.judged is not None
    assert result.judged.notes[0]["unread"] == {"timeout": 1}
    verdicts = result.judged.verdicts
    assert verdicts["outcome"].to_list() == ["inconsistent", "unread", "tie"]
    assert verdicts["failure"].to_list() == [None, "timeout", None]


def test_a_reply_that_failed_is_not_compared() -> None:
    result = evaluate(
        Known(0.0, {"one": "a"}), POOL, rng=np.random.default_rng(0), metrics=("pairwise",),
        judge=Judge(longer), pairwise=PairwiseJudge(),
    )  # fmt: skip
    assert result.examples["win_reference"].to_list() == [0.0, None, None]
    assert result.judged is not None
    (note,) = result.judged.notes
    assert (note["ours"], note["theirs"], note["not_compared"]) == ("tuned", "reference", 2)


def test_the_family_of_judge_and_model_is_told() -> None:
    result, _ = measured(longer, against=("base",))
    assert result.judged is not None
    assert result.judged.notes[0]["own_family"] is True
    assert told(result.judged.notes[0])[-1] == "the judge is of the trained model's own family and may prefer it"


def test_only_the_first_examples_are_judged_and_the_calls_are_foretold() -> None:
    result, judge = measured(longer, max_examples=1)
    assert result.examples["win_base"].to_list() == [1.0, None, None]
    assert judge.asked == PairwiseJudge(max_examples=1).expected_calls(3, 5.0).calls == 6


def test_pairwise_without_a_judge_is_refused() -> None:
    with pytest.raises(UsageError, match="metric pairwise asks a judge; give `backends"):
        evaluate(Known(0.0, TUNED), POOL, rng=np.random.default_rng(0), metrics=("pairwise",))
