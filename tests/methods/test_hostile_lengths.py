"""What reads replies and answers does so in linear time: 50,000 characters, which took minutes of backtracking and more."""

from collections.abc import Callable
from typing import Any

import pytest

from methods.asking.answers import final_answer, same_final_answer, vote_key
from methods.asking.arithmetic import annotations, equations_in
from methods.asking.execution import code_of
from methods.asking.parsing import after_marker, letter_of, score_of, verdict_of, yes_or_no
from methods.decontaminate._rephrase import same_or_not
from methods.filter._rating import rating_of
from methods.generate._alpaca_parse import blocks
from methods.generate._code_answers import read_concepts, read_solution
from methods.generate._elimination import tidied
from methods.generate._guide_filters import label_in, last_label
from methods.generate._parse import Bounds, Instance, judged, labelled_instances, series_items, task_instances
from methods.generate._seeds import Seed
from methods.generate.critique import read_critique
from methods.generate.evol_instruct import read_equal
from methods.generate.reflection import read_reflection
from methods.generate.self_guide import bare
from methods.texts.refusals import refusal_phrase

READERS: dict[str, Callable[[str], Any]] = {
    "final answer": final_answer,
    "vote": vote_key,
    "same answer": lambda text: same_final_answer(text, "#### 5"),
    "annotations": annotations,
    "annotations, official": lambda text: annotations(text, "official"),
    "code": code_of,
    "equations": lambda text: equations_in(text, "text"),
    "rephrased": same_or_not,
    "rating": rating_of,
    "letter": letter_of,
    "verdict": verdict_of,
    "score": lambda text: score_of(text, 0, 10),
    "yes": yes_or_no,
    "marker": after_marker,
    "alpaca": lambda text: blocks(text, 3, cut_off=False),
    "alpaca, official": lambda text: blocks(text, 3, cut_off=False, compat="official"),
    "series": series_items,
    "instruction": lambda text: judged(text, Bounds()),
    "instances": lambda text: task_instances(text, cut_off=False),
    "instances, official": lambda text: task_instances(text, cut_off=False, compat="official"),
    "labelled": lambda text: labelled_instances(text, cut_off=False),
    "seed": lambda text: Seed(b"", "task", (Instance(text, "x"),)).can_demonstrate,
    "concepts": read_concepts,
    "solution": read_solution,
    "critique": read_critique,
    "reflection": read_reflection,
    "equal": read_equal,
    "input": bare,
    "evolved": tidied,
    "label": lambda text: label_in(text, ["yes", "no"]),
    "last label": lambda text: last_label(text, ["yes", "no"]),
    "refusal": refusal_phrase,
}

#: What stands before, between and after long runs; most of it once took the square of the run's length, some the cube.
BEGINNINGS = (
    "",
    "answer",
    "score",
    "Input",
    "task",
    "Conclusion: right",
    "<input>",
    "New Prompt",
    "9.",
    "```",
    "Example 1",
)
RUNS = (" ", "\n", "\t", "<<", "<<1>", "1,", "1", "*", "#")


@pytest.mark.parametrize("reader", list(READERS))
def test_a_long_run_of_anything_is_read_once(reader: str) -> None:
    for beginning in BEGINNINGS:
        for run in RUNS:
            READERS[reader](beginning + run * (50_000 // len(run)) + "!x")


def test_what_was_read_before_is_read_still() -> None:
    assert final_answer("We think.\n\n   **A:** 7 apples") == final_answer("A: 7 apples")
    assert annotations("<<<1+1=2>> and <<2>> <<3") == ["<1+1=2", "2"]
    assert annotations("<<1<<2=2>> <<a>b>> <<3=3>>", "official") == ["1<<2=2", "3=3"]
    assert letter_of("answer  is : (b)") == "B"
    assert read_concepts("1) Recursion. \n - *memoization* ..") == ["Recursion", "memoization*"]
    assert (bare("<INPUT> a </input> "), bare("x <input>"), bare("<input>")) == ("a", "x <input>", "")
    assert tidied("#New Prompt# : Name two.") == "Name two."
    assert not Seed(b"", "Do it.", (Instance("one\n\n  Output 2 : x", "y"),)).can_demonstrate
    assert Seed(b"", "Do it.", (Instance("The output is: x", "y"),)).can_demonstrate
