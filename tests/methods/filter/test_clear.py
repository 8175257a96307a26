"""CLEAR: what is asked, what is left out, what is kept, and what is quarantined."""

import math
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from backends.nli.embedding import EmbeddingNLIEngine
from backends.protocols import Reply, Request, ScoreRequest, TokenLogprobs
from methods.filter.clear import Clear
from schemas.errors import CannotScore, EngineDown
from schemas.examples import EXAMPLES, VERDICTS, turns
from schemas.identity import digest16
from schemas.method import Using
from tests.methods.filter.clear_doubles import WordVectors, evidence, is_reflection, pool_of
from tests.methods.llm_doubles import AnswersBy, asked_text, failed

UNIT = st.floats(0, 1)


def judge(pool, answer, score=None, **fields):
    model = AnswersBy(answer, score)
    method = Clear(**fields)
    verdicts = method.judge(
        pool, using=Using(model, _nli=EmbeddingNLIEngine(WordVectors())), rng=np.random.default_rng(0)
    )
    assert verdicts.schema == pl.Schema(dict(VERDICTS))
    assert verdicts["id"].to_list() == pool["id"].to_list()
    return verdicts, model, method


def test_agreement_everywhere_is_certainty():
    verdicts, _, _ = judge(
        pool_of(("2+2?", "4")),
        lambda r: "explanation: yes, answer: A" if is_reflection(r) else "4",
        threshold={"value": 0.99},
    )
    assert verdicts["score"][0] == 1.0
    assert verdicts["fate"][0] == "keep"
    assert evidence(verdicts)["O"] == evidence(verdicts)["S"] == 1.0


def test_contradiction_everywhere_is_zero():
    verdicts, _, _ = judge(
        pool_of(("2+2?", "five apples")), lambda r: "answer: B" if is_reflection(r) else "4", threshold={"value": 0.0}
    )
    assert verdicts.select("score", "fate", "reason").row(0) == (0.0, "reject", "low-confidence")


def test_the_parts_are_those_of_the_formula():
    replies = {0: "red", 1: "red blue", 2: "green"}

    def answer(request):
        if is_reflection(request):
            return "explanation: hm, answer: A" if len(request.messages) == 1 else "explanation: hm, answer: C"
        return replies[request.sampling.index]

    verdicts, _, _ = judge(pool_of(("Colour?", "red")), answer, samples=3)
    cosine = 1 / math.sqrt(2)
    observed = ((0.8 + 0.2) + 0.8 * cosine + 0) / 3
    assert verdicts["score"][0] == pytest.approx(0.7 * observed + 0.3 * 0.75, abs=1e-6)
    found = evidence(verdicts)
    assert found["letters"] == ["A", "C"]
    assert [s["text"] for s in found["samples"]] == ["red", "red blue", "green"]
    assert [s["equal"] for s in found["samples"]] == [True, False, False]
    assert found["consistency"] == "embedding", "the substitute is named"
    assert len(found["calls"]) == 5


def test_the_pool_is_asked_in_two_large_lists():
    pool = pool_of(*((f"q{i}", "a") for i in range(50)))
    _, model, _ = judge(pool, lambda r: "answer: A" if is_reflection(r) else "a")
    assert model.batches == [50 * 5 + 50, 50]


def test_the_second_reflection_continues_the_conversation():
    _, model, _ = judge(pool_of(("2+2?", "4")), lambda r: "answer: A" if is_reflection(r) else "4")
    last = model.asked[-1]
    assert [turn.role for turn in last.messages] == ["user", "assistant", "user"]
    assert last.messages[0].content.startswith("Question: 2+2?\nProposed answer: 4\n\nIs the proposed answer:")
    assert last.messages[2].content.startswith("Are you really sure")


def test_samples_see_the_whole_conversation_before_the_answer():
    pool = pl.DataFrame(
        [
            {
                "id": digest16(b"x"),
                "source": "s",
                "messages": turns(
                    ("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "2+2?"), ("assistant", "4")
                ),
            }
        ],
        schema_overrides=dict(EXAMPLES),
    )
    _, model, _ = judge(pool, lambda r: "answer: A" if is_reflection(r) else "4")
    assert [turn.content for turn in model.asked[0].messages] == ["Be brief.", "Hi", "Yes?", "2+2?"]
    assert {request.sampling.index for request in model.asked[:5]} == {0, 1, 2, 3, 4}
    assert model.asked[0].sampling.temperature == 1.0


def test_an_unreadable_reflection_is_left_out_and_counted():
    def answer(request):
        if not is_reflection(request):
            return "4"
        return "It is a nice answer." if len(request.messages) == 1 else "answer: B"

    verdicts, _, method = judge(pool_of(("2+2?", "4")), answer)
    found = evidence(verdicts)
    assert found["letters"] == [None, "B"]
    assert found["S"] == 0.0, "the mean of the one that was read, not of two"
    assert found["failures"] == {"unparsed": 1}
    assert "left out: unparsed 1" in method.settled_rules(verdicts)[0].says


def test_without_any_reflection_the_confidence_is_the_samples_alone():
    verdicts, _, _ = judge(pool_of(("2+2?", "4")), lambda r: "who knows" if is_reflection(r) else "4")
    assert verdicts["score"][0] == 1.0
    assert evidence(verdicts)["S"] is None
    assert evidence(verdicts)["failures"] == {"unparsed": 2}


def test_when_the_first_reflection_fails_the_second_brings_the_answer_with_it():
    def answer(request):
        if "Is the proposed answer:" in asked_text(request):
            return failed("timeout")
        return "answer: A" if is_reflection(request) else "4"

    verdicts, model, _ = judge(pool_of(("2+2?", "4")), answer)
    assert len(model.asked[-1].messages) == 1
    assert "Proposed answer: 4" in asked_text(model.asked[-1])
    assert evidence(verdicts)["letters"] == [None, "A"]
    assert evidence(verdicts)["failures"] == {"timeout": 1}


def test_a_row_about_which_nothing_could_be_had_is_quarantined_with_its_class():
    def answer(request):
        if "poison" in str(request.messages):
            return failed("refused-by-server", "context too long")
        return "answer: A" if is_reflection(request) else "4"

    verdicts, _, method = judge(pool_of(("2+2?", "4"), ("poison", "4")), answer, threshold={"value": 0.5})
    assert verdicts.select("fate", "reason", "score").rows() == [
        ("keep", None, 1.0),
        ("quarantine", "no-confidence-refused-by-server", None),
    ]
    names = [rule.name for rule in method.settled_rules(verdicts)]
    assert names == ["low-confidence", "no-confidence-refused-by-server"]
    assert set(names) <= {rule.name for rule in method.rules()}


@pytest.mark.parametrize(
    "messages",
    [turns(("user", "2+2?")), turns(("assistant", "4")), turns(("user", "2+2?"), ("assistant", "  ")), []],
    ids=["no answer", "no question", "blank answer", "nothing"],
)
def test_an_example_without_question_or_answer_is_quarantined_without_a_call(messages):
    pool = pool_of(("2+2?", "4"), ("x", "y"))
    pool = pl.DataFrame(
        [pool.row(0, named=True), {**pool.row(1, named=True), "messages": messages}], schema=dict(EXAMPLES)
    )
    verdicts, model, _ = judge(pool, lambda r: "answer: A" if is_reflection(r) else "4", threshold={"value": 0.1})
    assert verdicts["fate"].to_list() == ["keep", "quarantine"]
    assert verdicts["reason"][1] == "no-confidence-no-answer"
    assert len(model.asked) == 7


def test_a_dead_engine_stops_the_step_instead_of_quarantining_the_pool():
    with pytest.raises(EngineDown, match="connection 6"):
        judge(pool_of(("2+2?", "4")), lambda r: failed("connection"))


def graded(request):
    """The sample equals the answer as often as the question says: ``match 3`` → 3 of 5."""
    if is_reflection(request):
        return "answer: C"
    wanted = int(asked_text(request).split()[1])
    return "right" if request.sampling.index < wanted else "wrong"


def test_the_median_drops_ties_and_the_rule_says_what_was_kept():
    pool = pool_of(*((f"match {n}", "right") for n in (0, 2, 2, 2, 5)))
    verdicts, _, method = judge(pool, graded)
    # O = n/5; C = 0.7 * n / 5 + 0.15
    assert verdicts["score"].to_list() == pytest.approx([0.15, 0.43, 0.43, 0.43, 0.85])
    assert verdicts["fate"].to_list() == ["reject"] * 4 + ["keep"]
    stored = verdicts["score"].cast(pl.Float32).cast(pl.Float64)
    assert stored.equals(verdicts["score"]), "scores survive their stored precision, so they tie as they did here"
    rule = method.settled_rules(verdicts)[0]
    assert rule.threshold == pytest.approx(0.43)
    assert rule.direction == "keep-above"
    assert "kept 1 of 5 (20.0%), 3 equal to the threshold are dropped" in rule.says
    audit = method.audit(pool, verdicts)
    assert audit["auto-filter"] == {
        "threshold": 0.43,
        "examples": 5,
        "with a confidence": 5,
        "above the threshold": 1,
        "share above it": 0.2,
    }
    assert audit["mean of each signal"] == {"samples (O)": 0.44, "reflections (S)": 0.5, "confidence": 0.458}


def test_a_fixed_threshold_is_known_before_judging():
    assert Clear(threshold={"value": 0.7}).rules()[0].threshold == 0.7
    assert Clear().rules()[0].threshold is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), UNIT)
def test_what_is_kept_lies_strictly_above_the_quantile(wanted, quantile):
    scores = [0.7 * n / 5 + 0.15 for n in wanted]
    limit = Clear(threshold={"quantile": quantile}).realised_threshold([*scores, None])
    kept = sum(score > limit for score in scores)
    assert kept <= (1 - quantile) * len(scores) + 1
    assert limit == pytest.approx(np.quantile(scores, quantile))


def test_no_samples_means_reflection_only_and_no_reflection_samples_only():
    answer = lambda r: "answer: B" if is_reflection(r) else "4"  # noqa: E731
    verdicts, model, _ = judge(pool_of(("2+2?", "4")), answer, samples=0)
    assert verdicts["score"][0] == 0.0
    assert len(model.asked) == 2
    verdicts, model, _ = judge(pool_of(("2+2?", "4")), answer, reflections=0)
    assert verdicts["score"][0] == 1.0
    assert len(model.asked) == 5


def test_exact_consistency_asks_no_nli():
    verdicts = Clear(consistency="exact").judge(
        pool_of(("match 3", "right")), using=Using(AnswersBy(graded)), rng=np.random.default_rng(0)
    )
    assert evidence(verdicts)["consistency"] == "exact"
    assert evidence(verdicts)["O"] == 0.6


def test_ties_with_the_threshold_are_kept_where_the_recipe_says_so():
    pool = pool_of(*(("match 2", "right") for _ in range(4)))
    strict, _, method = judge(pool, graded)
    assert strict["fate"].to_list() == ["reject"] * 4
    assert "kept 0 of 4 (0.0%), 4 equal to the threshold are dropped" in method.settled_rules(strict)[0].says
    kept, _, method = judge(pool, graded, keep_ties=True)
    assert kept["fate"].to_list() == ["keep"] * 4
    rule = method.settled_rules(kept)[0]
    assert "is below the threshold; kept 4 of 4 (100.0%), 4 equal to the threshold are kept" in rule.says


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"consistency": "embedding"}, "'nli' or 'exact'"),
        ({"samples": 0, "reflections": 0}, "nothing would be asked"),
        ({"threshold": {"median": 1}}, "threshold"),
        ({"letter_replies": {"A": []}}, "letter_replies"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_spent(fields, says):
    with pytest.raises(ValidationError, match=says):
        Clear(**fields)


def test_reflection_by_letter_probability_asks_no_reply():
    probabilities = {"A": 0.5, "B": 0.3, "C": 0.2}

    def score(request: ScoreRequest) -> TokenLogprobs:
        letter = request.completion[-1]
        return TokenLogprobs((math.log(probabilities[letter]) / 2,) * 2, call=digest16(letter.encode()))

    verdicts, model, _ = judge(
        pool_of(("2+2?", "4")),
        lambda r: "4",
        score,
        reflection="letter-probability",
        samples=0,
        threshold={"value": 0.5},
    )
    assert model.asked == []
    assert len(model.scored) == 6
    assert model.scored[-1].messages[1].content == "answer: A", "the likeliest counts as said"
    assert verdicts["score"][0] == pytest.approx(0.5 + 0.1)
    assert evidence(verdicts)["letters"][0] == {"A": 0.5, "B": 0.3, "C": 0.2}
    assert evidence(verdicts)["scorings"] == [digest16(letter.encode()).hex() for letter in "ABC"] * 2


def test_a_truncated_scoring_is_no_reflection():
    verdicts, _, _ = judge(
        pool_of(("2+2?", "4")),
        lambda r: "4",
        lambda r: TokenLogprobs((-1.0,), truncated=True),
        reflection="letter-probability",
        samples=1,
    )
    assert evidence(verdicts)["S"] is None
    assert evidence(verdicts)["failures"] == {"cut-off": 2}
    with pytest.raises(CannotScore):
        judge(pool_of(("2+2?", "4")), lambda r: "4", reflection="letter-probability")


def test_with_reasoning_first_only_what_follows_answer_is_compared():
    asked = "Think briefly, then end with 'answer:' and the answer."

    def answer(request):
        if is_reflection(request):
            return "answer: A"
        assert asked in asked_text(request)
        return "Two and two. Answer: 4" if request.sampling.index else "I would rather not."

    verdicts, _, _ = judge(pool_of(("2+2?", "4")), answer, reason_first=asked)
    found = evidence(verdicts)
    assert found["O"] == 1.0
    assert found["samples"][0] is None
    assert found["failures"] == {"unparsed": 1}


def test_cut_off_samples_still_count_and_are_named():
    cut = lambda r: "answer: A" if is_reflection(r) else Reply(text="4", finish_reason="length")  # noqa: E731
    verdicts, _, _ = judge(pool_of(("2+2?", "4")), cut)
    assert evidence(verdicts)["samples_cut_off"] == 5
    assert evidence(verdicts)["O"] == 1.0


def test_judging_in_parts_gives_the_same_confidences():
    pool = pool_of(*((f"match {n % 6}", "right") for n in range(12)))
    whole, _, _ = judge(pool, graded)
    parts = [judge(pool[a : a + 5], graded)[0] for a in (0, 5, 10)]
    assert pl.concat(parts)["score"].to_list() == whole["score"].to_list()
    assert pl.concat(parts)["evidence"].to_list() == whole["evidence"].to_list()


def sums_pool(n: int, rng: np.random.Generator) -> tuple[pl.DataFrame, list[bool]]:
    """Additions, a fifth of which carry another row's answer."""
    numbers = [(int(a), int(b)) for a, b in rng.integers(100, 1000, size=(n, 2))]
    noisy = [i % 5 == 0 for i in range(n)]
    pairs = [
        (f"{a} + {b}?", str(sum(numbers[(i + 1) % n]) if bad else a + b))
        for i, ((a, b), bad) in enumerate(zip(numbers, noisy, strict=True))
    ]
    return pool_of(*pairs), noisy


def knows_sums(request: Request) -> str:
    text = asked_text(request) if len(request.messages) == 1 else request.messages[0].content
    a, b = (int(x) for x in re.search(r"(\d+) \+ (\d+)", text).groups())
    if "Proposed answer" not in text:
        return str(a + b)
    return f"answer: {'A' if f'Proposed answer: {a + b}' in text else 'B'}"


def test_a_model_that_knows_the_truth_finds_all_planted_noise_and_a_random_one_half():
    pool, noisy = sums_pool(200, np.random.default_rng(3))
    verdicts, _, _ = judge(pool, knows_sums, threshold={"quantile": 0.2})
    dropped = [fate == "reject" for fate in verdicts["fate"]]
    assert dropped == noisy

    def clueless(request: Request) -> str:
        draw = digest16(repr(request).encode())[0]
        return f"answer: {'ABC'[draw % 3]}" if is_reflection(request) else str(draw)

    verdicts, _, _ = judge(pool, clueless)
    recall = sum(fate == "reject" and bad for fate, bad in zip(verdicts["fate"], noisy, strict=True)) / sum(noisy)
    assert 0.25 < recall < 0.8  # half, 40 noisy rows: three standard errors are 0.24
