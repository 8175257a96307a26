"""SliCK: the specification's vectors, and a student whose knowledge of each fact is planted."""

import json

import numpy as np
import pytest

from backends.protocols import Reply, Request
from methods.filter.knowledge import LABELS, Knowledge, category
from schemas.method import Using
from tests.methods.filter._rows import pool
from tests.methods.llm_doubles import AnswersBy

FACTS = [(f"Capital of {name}?", name.upper()) for name in ("aland", "bland", "cland", "dland", "eland")]


@pytest.mark.parametrize(
    ("greedy", "sampled", "label"),
    [(10, 0, "HighlyKnown"), (9, 160, "MaybeKnown"), (1, 0, "MaybeKnown"), (0, 1, "WeaklyKnown"), (0, 0, "Unknown")],
)
def test_the_vectors_of_the_specification(greedy: int, sampled: int, label: str) -> None:
    assert category(greedy, 10, sampled) == label


def test_more_right_answers_never_move_a_label_down() -> None:
    order = {label: n for n, label in enumerate(reversed(LABELS))}
    for greedy in range(10):
        for sampled in range(3):
            assert order[category(greedy + 1, 10, sampled)] >= order[category(greedy, 10, sampled)]
            assert order[category(greedy, 10, sampled + 1)] >= order[category(greedy, 10, sampled)]


def student(request: Request) -> str | Reply:
    question = request.messages[-1].content
    sampled = request.sampling.temperature > 0
    if "aland" in question:
        return "ALAND"
    if "bland" in question:
        return "BLAND." if request.messages[0].content < "Capital of d" else "no idea"
    if "cland" in question:
        return "Cland\nand more" if sampled else "no idea"
    if "eland" in question:
        return Reply(failure="server-error", finish_reason="error")
    return "no idea"


def test_each_fact_lands_in_its_category_and_the_unknown_go() -> None:
    rows = pool(*FACTS, ("Tell a story", "Once upon a time there was a fox who lived in a wood by the sea."))
    method = Knowledge(prompts=4, shots=2, samples=2)
    model = AnswersBy(student)
    verdicts = method.judge(rows, using=Using(_student=model), rng=np.random.default_rng(0))
    said = [json.loads(text) if text else {} for text in verdicts["evidence"].to_list()]
    assert [one.get("category") for one in said] == [
        "HighlyKnown",
        said[1]["category"],
        "WeaklyKnown",
        "Unknown",
        None,
        None,
    ]
    assert said[1]["category"] in ("MaybeKnown", "HighlyKnown")
    assert verdicts["fate"].to_list() == ["keep", "keep", "keep", "reject", "quarantine", "keep"]
    assert verdicts["reason"][4] == "knowledge-not-measured"
    assert len(model.asked) == 5 * 4 * 3, "five facts, four prompts, one greedy and two sampled answers"
    assert all(len(request.messages) == 5 for request in model.asked), "two shots and the question"
    assert all(
        request.messages[-1].content not in {t.content for t in request.messages[:-1]} for request in model.asked
    )
    audit = method.audit(rows, verdicts)["knowledge of the student"]
    assert sum(audit.values()) == pytest.approx(1.0)


def test_the_order_of_the_pool_changes_no_verdict() -> None:
    rows = pool(*FACTS)
    method = Knowledge(prompts=3, shots=2, samples=1)
    one = method.judge(rows, using=Using(_student=AnswersBy(student)), rng=np.random.default_rng(0)).sort("id")
    other = method.judge(rows.reverse(), using=Using(_student=AnswersBy(student)), rng=np.random.default_rng(0)).sort(
        "id"
    )
    assert one.equals(other)
