"""GRAPE: the likeliest answer per token, by hand; guards against short answers and self-distillation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.llm.scripted import Scripted
from backends.protocols import ScoreRequest, TokenLogprobs
from methods.generate.grape import Grape
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods._pools import pool_of, rng
from tests.methods.generate._candidates import answers_in, evidence_in, pool_with, reasons_in, with_system
from tests.methods.llm_doubles import AnswersBy

#: A student that knows how often each word comes: -log of these, and 0.5 for the end of the turn.
UNIGRAM = {"the": 0.5, "cat": 0.25, "sat": 0.125, "zebra": 0.001}


def unigram(probabilities=UNIGRAM) -> AnswersBy:
    def score(request: ScoreRequest) -> TokenLogprobs:
        words = [probabilities.get(word, 1e-6) for word in request.completion.split()]
        return TokenLogprobs(tuple(math.log(p) for p in [*words, 0.5]))

    return AnswersBy(lambda _: "", score)


def chosen(*answers: str, student: AnswersBy | None = None, **fields):
    pool = pool_of(*[("Tell me.", answer) for answer in answers])
    return Grape(**fields).generate(pool, using=Using(_student=student or unigram()), rng=rng())


def test_the_lowest_perplexity_wins_by_hand():
    """For "the cat" (ln .5 + ln .25 + ln .5) / 3 = -(1 + 2 + 1) ln 2 / 3 = -0.924; "the zebra" is far below."""
    made = chosen("the zebra", "the cat")
    assert answers_in(made) == ["the cat"]
    (seen,) = evidence_in(made.examples)
    assert seen["logprob_per_token"] == pytest.approx(-4 * math.log(2) / 3, abs=1e-6)
    assert seen["perplexity"] == pytest.approx(2 ** (4 / 3), abs=1e-3)
    assert (seen["rank"], seen["candidates"], seen["tokens"]) == (1, 2, 3)
    assert reasons_in(made) == {"the zebra": "less-likely"}
    assert made.notes["mean_margin"] > 1


def test_without_normalisation_the_shorter_answer_wins_and_with_it_the_likelier_words():
    """In all and per token, "cat": -(2 + 1) ln 2 = -2.08, -1.04; "the the the": -4 ln 2 = -2.77, -0.69."""
    assert answers_in(chosen("cat", "the the the")) == ["the the the"]
    assert answers_in(chosen("cat", "the the the", normalize=False)) == ["cat"]


def test_the_same_pool_under_another_student_gives_another_choice():
    other = unigram({"zebra": 0.9})
    assert answers_in(chosen("zebra", "cat")) == ["cat"]
    assert answers_in(chosen("zebra", "cat", student=other)) == ["zebra"]


def test_repeats_short_answers_and_own_sources_are_refused_before_they_are_scored():
    student = unigram()
    pool = pool_of(
        ("Tell me.", "the cat sat"), ("Tell me.", "the  cat sat"), ("Tell me.", "the"), ("Tell me.", "the the the the"),
        source=["a", "b", "a", "own"],
    )  # fmt: skip
    method = Grape(min_words=2, exclude_sources=("own",))
    made = method.generate(pool, using=Using(_student=student), rng=rng())
    assert made.examples.height == 1
    assert sorted(reasons_in(made).values()) == ["excluded-source", "repeats-candidate", "too-short"]
    assert len(student.scored) == 1


def test_a_question_with_too_few_answers_is_refused_whole():
    pool = pool_of(("One?", "the"), ("Two?", "the"), ("Two?", "cat"))
    made = Grape(min_candidates=2).generate(pool, using=Using(_student=unigram()), rng=rng())
    assert answers_in(made) == ["the"]
    assert made.refused["reason"].to_list() == ["too-few-candidates", "less-likely"] or set(made.refused["reason"]) == {
        "too-few-candidates",
        "less-likely",
    }


def test_wrong_answers_are_out_before_the_student_is_asked():
    pool = pool_with(("2+2?", "the 5", {"gold": "4"}), ("2+2?", "zebra 4", {"gold": "4"}))
    made = Grape(reference="gold").generate(pool, using=Using(_student=unigram()), rng=rng())
    assert answers_in(made) == ["zebra 4"]


@pytest.mark.parametrize(
    ("scored", "reason"),
    [
        (TokenLogprobs((-1.0,), truncated=True), "unscored-too-long"),
        (TokenLogprobs(failure="refused-by-server"), "unscored-refused-by-server"),
        (TokenLogprobs(), "unscored-empty"),
    ],
)
def test_an_answer_that_cannot_be_scored_is_refused_with_the_class(scored: TokenLogprobs, reason: str):
    made = chosen("the", "cat", student=AnswersBy(lambda _: "", lambda _: scored))
    assert made.examples.height == 0
    assert set(reasons_in(made).values()) == {reason}


def test_the_student_is_not_given_its_own_samples():
    engine = Scripted(default="the cat").open()
    pool = pool_of(("Tell me.", "the"))
    with pytest.raises(UsageError, match="the model that samples answers is the student"):
        Grape(candidates="both").generate(pool, using=Using(_llm=engine, _student=engine), rng=rng())
    made = Grape(candidates="both", own_samples="allow", samples=1).generate(
        pool, using=Using(_llm=engine, _student=engine), rng=rng()
    )
    assert made.examples.height == 1


def test_answers_are_scored_after_every_turn_before_them():
    student = unigram()
    pool = with_system(pool_of(("Tell me.", "the")), "Be brief.")
    Grape().generate(pool, using=Using(_student=student), rng=rng())
    assert [turn.role for turn in student.scored[0].messages] == ["system", "user"]


@given(st.lists(st.lists(st.sampled_from(sorted(UNIGRAM)), min_size=1, max_size=5), min_size=1, max_size=6))
def test_the_choice_is_the_argmin_of_perplexity_whatever_the_order(answers: list[list[str]]):
    texts = list(dict.fromkeys(" ".join(words) for words in answers))

    def perplexity(text: str) -> float:
        values = [*(UNIGRAM[word] for word in text.split()), 0.5]
        return math.exp(-sum(map(math.log, values)) / len(values))

    (picked,) = answers_in(chosen(*texts))
    assert perplexity(picked) == pytest.approx(min(map(perplexity, texts)))


def test_needs_follow_the_settings():
    assert Grape().needs == {"student"}
    assert Grape(candidates="sampled").needs == {"llm", "student"}
