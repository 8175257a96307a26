"""The signals of CLEAR's confidence: entailment in both directions, token probabilities, and the published vector."""

import math

import numpy as np
import pytest

from backends.nli.embedding import EmbeddingNLIEngine
from backends.protocols import ScoreRequest, TokenLogprobs
from methods.filter._confidence import noncontradictions
from methods.filter.clear import Clear
from schemas.method import Using
from tests.methods.filter.clear_doubles import Doubts, WordVectors, evidence, is_reflection, pool_of
from tests.methods.llm_doubles import AnswersBy


def judge(pool, answer, score=None, **fields):
    model, method = AnswersBy(answer, score), Clear(**fields)
    using = Using(model, _nli=EmbeddingNLIEngine(WordVectors()))
    return method.judge(pool, using=using, rng=np.random.default_rng(0)), model, method


def test_both_directions_count_and_each_pair_is_asked_once():
    nli = Doubts({("a", "b"): 0.1, ("b", "a"): 0.2})
    assert noncontradictions([("a", "b"), ("b", "a"), ("a", "b")], nli) == pytest.approx([0.85] * 3)
    assert sorted(nli.asked) == [("a", "b"), ("b", "a")]


def test_texts_are_compared_up_to_2000_characters():
    long, other = "x" * 1_000_000, "y" * 3000
    nli = Doubts({("x" * 2000, "y" * 2000): 0.5, ("y" * 2000, "x" * 2000): 0.5})
    assert noncontradictions([(long, other)], nli) == [0.5]


def test_the_published_vector_comes_out_of_the_whole_method():
    p = [(0.1, 0.2), None, (0.9, 0.7), (0.05, 0.15), None]  # None: the sample equals the answer
    texts = ["y" if chances is None else f"s{i}" for i, chances in enumerate(p)]
    planted = {}
    for text, chances in zip(texts, p, strict=True):
        if chances:
            planted |= {("y", text): chances[0], (text, "y"): chances[1]}

    def answer(request):
        if is_reflection(request):
            return "answer: A" if len(request.messages) == 1 else "answer: C"
        return texts[request.sampling.index]

    using = Using(AnswersBy(answer), _nli=Doubts(planted))
    verdicts = Clear().judge(pool_of(("x", "y")), using=using, rng=np.random.default_rng(0))
    found = evidence(verdicts)
    assert (found["O"], found["S"]) == (0.712, 0.75)
    assert verdicts["score"][0] == pytest.approx(0.7234, abs=1e-7)
    assert found["consistency"] == "planted-nli"


def token_scores(request: ScoreRequest) -> TokenLogprobs:
    """Two tokens: 0.3 each given the question, 0.1 each without; cut where the answer is long."""
    p = 0.3 if request.messages else 0.1
    return TokenLogprobs((math.log(p),) * 2, truncated="long" in request.completion)


@pytest.mark.parametrize(("kind", "value", "scorings"), [("probability", 0.3, 1), ("gain", 0.3 / (0.3 + 0.1), 2)])
def test_token_probabilities_alone_or_beside_the_other_parts(kind, value, scorings):
    pool = pool_of(("2+2?", "4"))
    alone, model, _ = judge(pool, lambda r: "4", token_scores, samples=0, reflections=0, likelihood=kind)
    assert alone["score"][0] == pytest.approx(value, abs=1e-7)
    assert evidence(alone)["L"] == pytest.approx(value)
    assert (model.asked, len(model.scored)) == ([], scorings)
    beside, _, _ = judge(
        pool,
        lambda r: "answer: B" if is_reflection(r) else "4",
        token_scores,
        likelihood=kind,
        likelihood_weight=0.5,
    )
    assert beside["score"][0] == pytest.approx(0.5 * value + 0.5 * 0.7, abs=1e-6), "O = 1, S = 0"


def test_an_answer_that_cannot_be_scored_is_counted_and_left_out():
    pool = pool_of(("2+2?", "a long one"))
    alone, _, method = judge(pool, lambda r: "4", token_scores, samples=0, reflections=0, likelihood="gain")
    assert alone.select("fate", "reason", "score").row(0) == ("quarantine", "no-confidence-cut-off", None)
    assert "no-confidence-cut-off" in {rule.name for rule in method.settled_rules(alone)}
    answer = lambda r: "answer: A" if is_reflection(r) else "a long one"  # noqa: E731
    beside, _, _ = judge(pool, answer, token_scores, likelihood="gain")
    assert beside["score"][0] == 1.0
    assert evidence(beside)["failures"] == {"cut-off": 1}
