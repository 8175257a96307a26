"""Self-tuning: rows find their task, shots stand before them, each task has a model of its own and a paired interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from backends.protocols import LLM, Turn
from methods.generate._guide_tasks import tasks_of
from methods.generate._seeds import seeds_of
from methods.self_tuning import SelfTuning, by_task, with_shots
from schemas.errors import EmptyStage
from schemas.examples import EXAMPLES, turns
from schemas.identity import digest16
from schemas.method import Using
from tests.methods.generate.test_self_guide import MOOD, TOPIC, seed_rows
from tests.methods.llm_doubles import AnswersBy


def rows(*pairs: tuple[str, str]) -> pl.DataFrame:
    found = [
        {
            "id": digest16(f"{asked} {number}".encode()),
            "messages": turns(("user", asked), ("assistant", said)),
            "source": "d",
        }
        for number, (asked, said) in enumerate(pairs)
    ]
    return pl.DataFrame(
        found, schema_overrides={k: v for k, v in EXAMPLES.items() if k in ("id", "messages", "source")}
    )


class Parrot:
    """A tuner whose models answer the commonest output that they learned; the untuned one says nothing of use."""

    def __init__(self) -> None:
        self.learned: list[list[list[Turn]]] = []

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "parrot"}

    def untuned(self) -> LLM:
        return AnswersBy(lambda _: "hm")

    def tuned(self, conversations: Sequence[Sequence[Turn]], *, rng_seed: int = 0, keep_order: bool = False) -> LLM:
        self.learned.append([list(c) for c in conversations])
        said = [c[-1].content for c in conversations]
        return AnswersBy(lambda _: max(set(said), key=said.count))


POOL = rows((f"{MOOD['instruction']}\n\nSun.", "glad"), (f"{MOOD['instruction']}\n\nFun.", "glad"))
DEV = rows(
    (f"{MOOD['instruction']}\n\nWarm.", "glad"), (f"{MOOD['instruction']}\n\nCold.", "sad"),
    (f"{TOPIC['instruction']}\n\nFact: ice is cold.", "ice"), ("Something else.", "x"),
)  # fmt: skip


def measure(tuner: Parrot, dev: pl.DataFrame = DEV, **fields):
    using = Using(_tune=tuner)
    return SelfTuning(**fields).measure(POOL, dev, seed_rows(MOOD, TOPIC), using=using, rng=np.random.default_rng(0))


def test_each_task_is_tuned_on_its_own_rows_and_measured_on_its_own_metric():
    tuner = Parrot()
    result = measure(tuner)
    mood, topic = (result.report.of(m, f"task={t}") for m, t in (("exact-match", "mood"), ("rouge-l", "topic")))
    assert (mood.before, mood.value, mood.change, mood.examples) == (0.0, 0.5, 0.5, 2)
    assert (mood.change_low, mood.change_high) == (0.0, 1.0), (
        "one of two examples: the interval says how little that is"
    )
    assert (topic.before, topic.value, topic.change) == (0.0, 0.0, 0.0), "it has no rows, so nothing was tuned"
    assert [len(learned) for learned in tuner.learned] == [2]
    assert result.examples.height == 3, "the row of no task is left out"


def test_shots_stand_before_the_question_in_tuning_and_in_measuring():
    tuner = Parrot()
    measure(tuner, shots=1)
    (conversation, _) = tuner.learned[0]
    assert [turn.role for turn in conversation] == ["system", "user", "assistant", "user", "assistant"]
    assert conversation[0].content == MOOD["instruction"]
    assert (conversation[1].content, conversation[3].content) == ("The sun is out.", "Sun.")
    plain = with_shots(POOL["messages"].to_list()[0], tasks_of(seeds_of(seed_rows(MOOD)))[0], 0)
    assert (plain[0]["role"], plain[0]["content"]) == ("user", f"{MOOD['instruction']}\n\nSun.")


def test_of_two_instructions_that_begin_alike_the_longer_one_owns_the_row():
    short = {"task": "short", "instruction": "Add.", "instances": [{"input": "1", "output": "2"}]}
    long = {"task": "long", "instruction": "Add. Then double.", "instances": [{"input": "1", "output": "4"}]}
    found = by_task(
        rows(("Add.\n\n3", "4"), ("Add. Then double.\n\n3", "8")), tasks_of(seeds_of(seed_rows(short, long)))
    )
    assert {name: frame.height for name, frame in found.items()} == {"short": 1, "long": 1}


def test_without_a_row_of_any_task_it_says_so():
    with pytest.raises(EmptyStage, match="no row of the development set begins with the instruction"):
        measure(Parrot(), DEV.tail(1))
