"""Evaluation, worked by hand on engines whose log-probabilities and replies are known."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.protocols import Reply, TokenLogprobs
from methods.measuring.evaluation import answer_losses, bootstrap, evaluate, interval
from schemas.errors import CannotScore, EmptyStage
from schemas.examples import MESSAGES, turns


class Known:
    """An engine that gives each word of a completion the same log-probability and replies from a table."""

    def __init__(self, logprob: float, replies: dict[str, str] | None = None, name: str = "known") -> None:
        self.logprob, self.replies, self.name = logprob, replies or {}, name

    def identity(self):
        return {"backend": self.name, "logprob": self.logprob}

    def generate(self, requests):
        assert all(request.sampling.temperature == 0.0 for request in requests)
        asked = [request.messages[-1].content for request in requests]
        return [Reply(text=self.replies[q]) if q in self.replies else Reply(failure="timeout") for q in asked]

    def logprobs(self, requests):
        return [
            TokenLogprobs((self.logprob,) * len(r.completion.split()), truncated="long" in r.completion)
            if r.completion
            else TokenLogprobs(failure="refused-by-server")
            for r in requests
        ]

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]


def frame(*rows) -> pl.DataFrame:
    """(source, messages) pairs as examples."""
    return pl.DataFrame(
        {
            "id": [i.to_bytes(16, "big") for i in range(len(rows))],
            "source": [source for source, _ in rows],
            "messages": [messages for _, messages in rows],
        },
        schema={"id": pl.Binary, "source": pl.String, "messages": MESSAGES},
    )


def ask(question: str, answer: str):
    return turns(("user", question), ("assistant", answer))


class PerQuestion(Known):
    """Log-probability per word by the first word of the question."""

    def __init__(self, table: dict[str, float]) -> None:
        super().__init__(0.0)
        self.table = table

    def logprobs(self, requests):
        return [TokenLogprobs((self.table[r.messages[-1].content],) * len(r.completion.split())) for r in requests]


def test_the_loss_weighs_tokens_equally_and_every_source_has_its_line():
    # a: 1 word at 3 nats; b: 3 words at 1 nat → all: (3 + 3) / 4 = 1.5, not the mean of means 2
    pool = frame(("a", ask("hard", "one")), ("b", ask("easy", "one two three")))
    result = evaluate(PerQuestion({"hard": -3.0, "easy": -1.0}), pool, rng=np.random.default_rng(0))
    report = result.report
    assert report.of("loss").value == pytest.approx(1.5)
    assert report.of("loss", "source=a").value == pytest.approx(3.0)
    assert report.of("loss", "source=b").value == pytest.approx(1.0)
    assert (report.of("loss", "source=a").low, report.of("loss", "source=a").high) == (3.0, 3.0)
    assert 1.0 <= report.of("loss").low < 1.5 < report.of("loss").high <= 3.0
    assert result.examples["loss"].to_list() == [3.0, 1.0]
    assert result.examples["n_tokens"].to_list() == [1, 3]


def test_every_assistant_turn_is_scored_given_the_turns_before_it():
    talk = turns(("user", "a"), ("assistant", "x y"), ("user", "b"), ("assistant", "z"))
    scored = answer_losses(PerQuestion({"a": -1.0, "b": -4.0}), frame(("s", talk)))
    assert scored["loss"][0] == pytest.approx((2 * 1 + 4) / 3)
    assert scored["n_tokens"][0] == 3


def test_what_cannot_be_scored_is_counted_and_never_a_zero():
    pool = frame(("a", ask("q", "")), ("a", ask("q", "fine")), ("a", turns(("user", "only a question"))))
    result = evaluate(Known(-2.0), pool, rng=np.random.default_rng(0))
    assert result.report.unscored == {"refused-by-server": 1, "empty": 1}
    assert result.report.of("loss").examples == 1
    assert result.examples["loss"].to_list() == [None, 2.0, None]
    nothing = evaluate(Known(-2.0), pool[:1], rng=np.random.default_rng(0)).report.of("loss")
    assert (nothing.examples, nothing.value, nothing.low) == (0, None, None)


def test_truncated_answers_are_counted():
    pool = frame(("a", ask("q", "a long answer")), ("a", ask("q", "short")))
    assert evaluate(Known(-1.0), pool, rng=np.random.default_rng(0)).report.truncated == 1


def test_exact_match_and_rouge_compare_the_greedy_reply_with_the_last_turn():
    pool = frame(("a", ask("one", "The cat sat.")), ("a", ask("two", "a b c d")), ("b", ask("three", "x")))
    engine = Known(0.0, {"one": "the cat sat", "two": "a b", "three": "y"})
    result = evaluate(engine, pool, rng=np.random.default_rng(0), metrics=("exact-match", "rouge-l"))
    assert result.examples["exact_match"].to_list() == [1.0, 0.0, 0.0]
    # "a b" against "a b c d": LCS 2, F1 = 2 * 2 / (2 + 4)
    assert result.examples["rouge_l"].to_list() == pytest.approx([1.0, 4 / 6, 0.0])
    assert result.report.of("exact-match").value == pytest.approx(1 / 3)
    assert result.report.of("rouge-l", "source=a").value == pytest.approx((1 + 4 / 6) / 2)
    assert "loss" not in result.examples.columns


def test_a_failed_reply_is_null_and_counted():
    pool = frame(("a", ask("one", "yes")), ("a", ask("two", "no")))
    result = evaluate(Known(0.0, {"one": "yes"}), pool, rng=np.random.default_rng(0), metrics=("exact-match",))
    assert result.examples["exact_match"].to_list() == [1.0, None]
    assert result.report.unscored == {"timeout": 1}
    assert result.report.of("exact-match").value == 1.0


def test_the_change_from_the_untuned_model_is_paired():
    """Every example improves by exactly 0.5 nats: the interval of the change is a point, though losses differ widely."""
    questions = [f"q{i}" for i in range(8)]
    pool = frame(*(("a", ask(q, "word")) for q in questions))
    after = PerQuestion({q: -float(i) for i, q in enumerate(questions)})
    before = PerQuestion({q: -float(i) - 0.5 for i, q in enumerate(questions)})
    one = evaluate(after, pool, rng=np.random.default_rng(0), baseline=before).report.of("loss")
    assert one.value == pytest.approx(3.5)
    assert one.before == pytest.approx(4.0)
    assert one.change == pytest.approx(-0.5)
    assert (one.change_low, one.change_high) == pytest.approx((-0.5, -0.5))
    assert (one.before_low, one.before_high) == pytest.approx((one.low + 0.5, one.high + 0.5)), "the same rows drawn"
    assert one.high - one.low > 1


def test_a_baseline_that_failed_on_an_example_takes_it_out_of_the_comparison():
    class Half(Known):
        def logprobs(self, requests):
            return [TokenLogprobs(failure="timeout"), *super().logprobs(requests[1:])]

    pool = frame(("a", ask("one", "w")), ("a", ask("two", "w")))
    one = evaluate(Known(-1.0), pool, rng=np.random.default_rng(0), baseline=Half(-2.0)).report.of("loss")
    assert (one.examples, one.change) == (1, -1.0)


def test_many_sources_do_not_make_many_lines():
    pool = frame(*((f"s{i % 60}", ask("q", "w")) for i in range(120)))
    lines = evaluate(Known(-1.0), pool, rng=np.random.default_rng(0)).report.measured
    assert len(lines) == 1 + 50


def test_progress_ends_at_its_total():
    told = []
    pool = frame(*(("a", ask(f"q{i}", "w")) for i in range(70)))
    evaluate(
        Known(-1.0, {f"q{i}": "w" for i in range(70)}),
        pool,
        rng=np.random.default_rng(0),
        metrics=("loss", "rouge-l"),
        baseline=Known(-1.0, {}),
        progress=lambda done, total, note="": told.append((done, total)),
    )
    assert told[-1] == (280, 280)
    assert told == sorted(told)


def test_nothing_to_evaluate_on_and_no_logprobs_are_errors():
    with pytest.raises(EmptyStage, match="no example to evaluate on"):
        evaluate(Known(0.0), frame(), rng=np.random.default_rng(0))

    class Mute(Known):
        def logprobs(self, requests):
            raise CannotScore("this engine gives no log-probabilities")

    with pytest.raises(CannotScore):
        evaluate(Mute(0.0), frame(("a", ask("q", "w"))), rng=np.random.default_rng(0))


def test_the_bootstrap_interval_is_as_wide_as_theory_says():
    rng = np.random.default_rng(1)
    values = rng.normal(size=2000)
    low, high = interval(bootstrap([values], np.ones(2000), rng)[:, 0])
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(2000), rel=0.12)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_resampled_means_stay_within_the_values_and_blocks_do_not_matter(values, seed):
    column = np.array(values)
    drawn = bootstrap([column, column], np.ones(len(column)), np.random.default_rng(seed))
    assert drawn.min() >= column.min() - 1e-9
    assert drawn.max() <= column.max() + 1e-9
    np.testing.assert_allclose(drawn[:, 0], drawn[:, 1])
