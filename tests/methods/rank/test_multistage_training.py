"""The filter that works while a proxy trains: what is easy is passed over, first by its loss, then by its words."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.protocols import TokenLogprobs, Turn
from backends.tune.simulated import SimulatedTuner
from methods.rank.multistage import Multistage
from methods.texts.naive_bayes import BernoulliBayes, GrowingBayes
from methods.training_filter import Plan, filtered_training, word_numbers
from schemas.errors import BackendError
from schemas.method import Using
from tests.methods._pools import pool_of, rng

#: Rivers are known from the start, jokes are not; learning one does nothing for the other.
SKILLS = SimulatedTuner(skills=("river", "joke"), start_loss=(1.2, 3.0), rate=0.01, batch_size=4)
POOL = pool_of(*((f"name a river {i}" if i % 2 else f"tell a joke {i}", "well then") for i in range(80)))
RIVERS = pl.Series([bool(i % 2) for i in range(80)])


def method(**fields: Any) -> Multistage:
    plan = {"warmup_fraction": 0.1, "batch_examples": 4, "window": 16, "certainty": 0.2}
    return Multistage(form="training", **{**plan, **fields})


def ranked(pool: pl.DataFrame = POOL, using: Using | None = None, **fields: Any) -> pl.DataFrame:
    tools = using or Using(_tune=SKILLS.open())
    return method(**fields).rank(pool, target=None, using=tools, rng=rng())


def test_what_is_easy_is_measured_then_foreseen_and_never_trained_on() -> None:
    found = ranked()
    warm = found.filter(pl.col("measured") + pl.col("skipped") == 0).height
    assert warm == 8, "a tenth, in two steps of four"
    rivers, jokes = found.filter(RIVERS), found.filter(~RIVERS)
    assert rivers["learned"].sum() == 0
    assert jokes.filter(pl.col("measured") > 0)["learned"].min() == 1
    assert rivers["skipped"].sum() > 0, "after a while the word river is enough"
    assert jokes["skipped"].sum() == 0
    assert jokes["score"].min() > rivers["score"].max(), "also those of the warm-up, by their words"
    assert found["loss"].null_count() == (found["measured"] == 0).sum()


def test_later_passes_begin_with_what_was_learned_about_the_words() -> None:
    found = ranked(passes=3)
    assert (found["measured"] + found["skipped"]).is_in([2.0, 3.0]).all()
    assert found.filter(RIVERS)["skipped"].max() >= 2
    assert found["learned"].max() == 3


def test_a_predictor_that_is_never_sure_spares_nothing() -> None:
    found = ranked(certainty=1e-9)
    assert found["skipped"].sum() == 0
    assert found["measured"].sum() == 72


def test_the_order_of_rows_decides_nothing_and_a_finished_training_is_remembered() -> None:
    told: dict[str, Mapping[str, Any]] = {}

    def once(what: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        if repr(what) not in told:
            told[repr(what)] = make()
        return told[repr(what)]

    first = ranked(using=Using(_tune=SKILLS.open(), once=once))
    again = ranked(POOL.reverse(), Using(once=once))
    assert again.reverse().equals(first), "the second had no tuner at all"
    assert len(told) == 1


class Scripted:
    """Each text has a loss of its own that training does not change; remembers what it was taught."""

    def __init__(self, losses: list[float]) -> None:
        self.by_number = losses
        self.taught: list[list[int]] = []

    def _of(self, talk: Any) -> int:
        return int(talk[-1].content)

    def learn(self, conversations: Any, **how: Any) -> list[float]:
        self.taught.append([self._of(talk) for talk in conversations])
        return [float(np.mean([self.by_number[i] for i in self.taught[-1]]))]

    def losses(self, conversations: Any) -> list[TokenLogprobs]:
        return [TokenLogprobs((-self.by_number[self._of(talk)],)) for talk in conversations]


def test_threshold_batches_and_the_last_short_batch_by_hand() -> None:
    losses = [1.0, 3.0, 1.0, 3.0, 5.0, 1.9, 2.0, 4.0, 0.5, 6.0]
    session: Any = Scripted(losses)
    talks = [[Turn("user", "x"), Turn("assistant", str(i))] for i in range(10)]
    texts = word_numbers([{f"w{i % 2}"} for i in range(10)], 1)
    course = filtered_training(session, talks, texts, [np.arange(10)], Plan(2, 4, 4, 1e-9))
    assert course.threshold == 2.0, "the mean of the four losses of the warm-up"
    assert session.taught == [[0, 1], [2, 3], [4, 6], [7, 9]], "1.9 and 0.5 stay out; two wait until they are a batch"
    assert course.learned.tolist() == [0, 0, 0, 0, 1, 0, 1, 1, 0, 1]
    assert course.measured.tolist() == [0] * 4 + [1] * 6
    assert course.steps == 4
    assert course.predicted_from is None
    guesses = [
        0.5,
        0.5,
        0.8,
        0.2,
    ]  # nothing known of 4 and 5, then even words are hard as 4 to 1, and 7 is hard as well
    assert course.surprise == pytest.approx(-np.mean(np.log(guesses))), "worse than a coin: the words do not decide"
    short: Any = Scripted([*losses, 7.0])
    filtered_training(
        short, [*talks, [Turn("user", "x"), Turn("assistant", "10")]], [*texts, texts[0]], [np.arange(11)], Plan(2, 4, 4, 1e-9)
    )  # fmt: skip
    assert short.taught[-1] == [10], "what waits at the end is trained on as well"


def test_a_loss_that_is_no_number_ends_with_the_way_out() -> None:
    talks = [[Turn("user", "x"), Turn("assistant", str(i))] for i in range(3)]
    session: Any = Scripted([1.0, 1.0, float("nan")])
    with pytest.raises(BackendError, match="lower the tuner's learning_rate"):
        filtered_training(session, talks, word_numbers([{"a"}] * 3, 1), [np.arange(3)], Plan(1, 2, 2, 0.1))


@given(st.lists(st.tuples(st.sets(st.integers(0, 6), max_size=4), st.booleans()), min_size=2, max_size=12))
def test_one_text_at_a_time_tells_the_same_as_all_at_once(texts: list[tuple[set[int], bool]]) -> None:
    every = [
        (text | {7}, first) for text, first in texts
    ]  # a word that all have, so that the vocabularies are the same
    used = sorted(set().union(*(text for text, _ in every)))
    bayes = GrowingBayes(len(used))
    for text, first in every:
        bayes.learn(np.array([used.index(w) for w in sorted(text)]), first)
    whole = BernoulliBayes([{str(w) for w in text} for text, _ in every], [first for _, first in every], min_texts=1)
    for text, _ in every:
        assert bayes.odds([np.array([used.index(w) for w in sorted(text)])])[0] == pytest.approx(
            whole({str(w) for w in text})
        )
