"""Rankings by what training says back: one-step gains against the closed form, hardness foreseen from words."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

import numpy as np
import polars as pl
import pytest

from backends.protocols import TokenLogprobs, Turn
from backends.tune.simulated import SimulatedTuner
from methods.rank.information_gain import InformationGain, foreseen
from methods.rank.multistage import Multistage, hard
from methods.stats import spearman
from methods.texts.naive_bayes import BernoulliBayes
from schemas.errors import BackendError, UsageError
from schemas.method import Using
from tests.methods._engines import Hashed
from tests.methods._pools import pool_of, rng

RATE = 1e-3


class Linear:
    """A tuner whose model is ``theta · x``: prompts are numbers x, answers are y, the loss is the squared error."""

    def __init__(self, diverges: bool = False) -> None:
        self.start_at = np.array([0.3, -0.2, 0.5])
        self.diverges = diverges
        self.resets = 0

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "linear"}

    def start(self, rng_seed: int = 0) -> "Linear":
        self.reset()
        return self

    def reset(self) -> None:
        self.theta = self.start_at.copy()
        self.resets += 1

    def loss_and_slope(self, conversation: Sequence[Turn]) -> tuple[float, np.ndarray]:
        x = np.array([float(part) for part in conversation[0].content.split()])
        error = float(self.theta @ x) - float(conversation[1].content)
        return error**2, 2 * error * x

    def learn(self, conversations: Sequence[Sequence[Turn]], **_: Any) -> list[float]:
        (conversation,) = conversations
        loss, slope = self.loss_and_slope(conversation)
        self.theta = self.theta - RATE * slope if not self.diverges else np.full(3, np.nan)
        return [loss]

    def losses(self, conversations: Sequence[Sequence[Turn]]) -> list[TokenLogprobs]:
        return [TokenLogprobs((-self.loss_and_slope(c)[0],)) for c in conversations]


def numbers(count: int, seed: int) -> pl.DataFrame:
    drawn = np.random.default_rng(seed).standard_normal((count, 4))
    return pool_of(*((" ".join(f"{v:.3f}" for v in row[:3]), f"{row[3]:.3f}") for row in drawn))


def test_one_step_gains_are_the_product_of_gradients_on_a_linear_model():
    pool, target, tuner = numbers(60, 1), numbers(20, 2), Linear()
    method = InformationGain(labels=60, target_examples=20)
    found = method.rank(pool, target=target, using=Using(_tune=tuner, _embed=Hashed()), rng=rng())
    assert tuner.resets >= 61, "every step starts from the untuned weights"
    tuner.reset()

    def slope(messages: list[dict[str, str]]) -> np.ndarray:
        return tuner.loss_and_slope([Turn("user", messages[0]["content"]), Turn("assistant", messages[1]["content"])])[
            1
        ]

    goal = np.mean([slope(m) for m in target["messages"].to_list()], axis=0)
    expected = np.array([RATE * goal @ slope(m) for m in pool["messages"].to_list()])
    assert spearman(found["gain"].to_numpy(), expected) > 0.99
    assert found["gain"].to_numpy() == pytest.approx(expected, abs=0.02 * np.abs(expected).max())


def test_the_regression_foresees_gains_of_examples_that_were_not_measured_and_says_how_well():
    skills = SimulatedTuner(skills=("river", "joke"), start_loss=(3.0,), rate=0.5, batch_size=1)
    pool = pool_of(*((f"{'name a river' if i % 2 else 'tell a joke'}{' now' * (i % 5)}", "well") for i in range(40)))
    target = pool_of(("name one river", "the loire"))
    using = Using(_tune=skills.open(), _embed=Hashed())
    found = InformationGain(labels=16).rank(pool, target=target, using=using, rng=rng())
    assert found["gain"].count() == 16
    river = np.arange(40) % 2 == 1
    score = found["score"].to_numpy()
    assert score[river].min() > score[~river].max(), "also among the 24 that were never stepped on"
    assert 0.8 < found["explained"][0] <= 1.0


def test_equal_or_few_gains_foresee_nothing_and_say_so():
    vectors = np.eye(5)
    for gains in (np.full(5, 0.3), np.array([0.1, 0.2])):
        score, explained = foreseen(vectors, np.arange(len(gains)), gains)
        assert score.tolist() == [0.0] * 5
        assert explained == 0.0


def test_steps_without_a_finite_loss_and_a_missing_target_are_errors():
    using = Using(_tune=Linear(diverges=True), _embed=Hashed())
    with pytest.raises(
        BackendError, match="10 of 10 steps ended without a finite loss; lower the tuner's learning_rate"
    ):
        InformationGain().rank(numbers(10, 1), target=numbers(3, 2), using=using, rng=rng())
    with pytest.raises(UsageError, match="role: target"):
        InformationGain().rank(numbers(10, 1), target=None, using=using, rng=rng())


def test_naive_bayes_by_hand():
    told = BernoulliBayes([{"a", "b"}, {"a"}, {"b"}], [True, True, False], min_texts=1)
    # a: 3/4 against 1/3, b: 2/4 against 2/3; two of three texts are of the first class
    assert told({"a", "b"}) == pytest.approx(log(2) + log(3 / 4 / (1 / 3)) + log(2 / 4 / (2 / 3)))
    assert told(set()) == pytest.approx(log(2) + log(1 / 4 / (2 / 3)) + log(2 / 4 / (1 / 3)))
    assert told({"a", "never seen"}) == told({"a"})
    assert BernoulliBayes([{"a"}], [True])({"a"}) == 0.0, "one class tells nothing"
    assert BernoulliBayes([{"a"}, {"b"}], [True, False], min_texts=2)({"a"}) == pytest.approx(0.0), "too rare"


def test_hard_is_above_the_mean_and_nothing_is_where_all_are_alike():
    assert hard(np.array([1.0, 1.0, 4.0])) == [False, False, True]
    assert hard(np.array([0.1 + 0.2, 0.3])) == [False, False]
    assert hard(np.zeros(0)) == []


def test_multistage_extrapolates_hardness_from_a_sample():
    skills = SimulatedTuner(skills=("river", "joke"), start_loss=(1.5, 3.0))
    pool = pool_of(*((f"name a river {i}" if i % 2 else f"tell a joke {i}", "well then") for i in range(40)))
    method = Multistage(sample_examples=12)
    found = method.rank(pool, target=None, using=Using(_tune=skills.open()), rng=rng())
    assert found["loss"].count() == 12
    score = found["score"].to_numpy()
    assert score[0::2].min() > 0 > score[1::2].max(), "jokes stay hard"
    known = found.filter(pl.col("loss").is_not_null())
    assert ((known["loss"] > known["loss"].mean()) == (known["score"] > 0)).all()


def test_multistage_says_nothing_where_all_losses_are_alike():
    pool = pool_of(*((f"name a river {i}", "well then") for i in range(8)))
    using = Using(_tune=SimulatedTuner(skills=("river",)).open())
    assert Multistage().rank(pool, target=None, using=using, rng=rng())["score"].to_list() == [0.0] * 8
