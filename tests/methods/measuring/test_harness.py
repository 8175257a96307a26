"""Figures of lm-evaluation-harness, worked by hand: means by bootstrap, others by their standard error, unlike ones apart."""

from typing import Any

import numpy as np
import pytest

from methods.measuring.harness import HarnessResult, harness_notes, harness_result
from schemas.identity import fingerprint


def result(values: list[float], *, acc: float | None = None, docs: str = "d", **more: Any) -> dict[str, Any]:
    """One task ``quiz`` with accuracy per example, and a perplexity whose figure is no mean."""
    return {
        "tasks": {
            "quiz": {
                "version": 2.0,
                "num_fewshot": 5,
                "higher_is_better": {"acc": True, "word_perplexity": False},
                "dataset": ["json", None],
                "metrics": {
                    "acc,none": sum(values) / len(values) if acc is None else acc,
                    "acc_stderr,none": 0.1,
                    "word_perplexity,none": 12.0,
                    "word_perplexity_stderr,none": "N/A",
                    **more,
                },
                "examples": [
                    {"doc_id": i, "doc": f"{docs}{i}", "filter": "none", "values": {"acc": value}}
                    for i, value in enumerate(values)
                ],
            }
        }
    }


def read(tuned: dict[str, Any], base: dict[str, Any] | None = None) -> HarnessResult:
    return harness_result(tuned, base, fingerprint, np.random.default_rng(0))


def test_an_accuracy_has_an_interval_over_examples_and_a_paired_change() -> None:
    found = read(result([1.0, 1.0, 0.0, 1.0]), result([0.0, 1.0, 0.0, 1.0]))
    acc = next(one for one in found.measured if one.metric == "quiz/acc")
    assert (acc.examples, acc.value, acc.before, acc.change) == (4, 0.75, 0.5, 0.25)
    assert acc.low is not None
    assert acc.low < 0.75 < (acc.high or 0)
    assert (acc.change_low, acc.change_high) == (0.0, 0.75), "one example of four became right, none became wrong"
    assert found.examples.filter(metric="quiz/acc")["before"].to_list() == [0.0, 1.0, 0.0, 1.0]


def test_a_figure_that_is_no_mean_keeps_the_harness_s_standard_error() -> None:
    found = read(result([1.0, 0.0], acc=0.9))
    acc = found.measured[0]
    assert (acc.low, acc.high) == (pytest.approx(0.9 - 0.196, abs=1e-4), pytest.approx(0.9 + 0.196, abs=1e-4))
    perplexity = found.measured[1]
    assert (perplexity.metric, perplexity.value, perplexity.low) == ("quiz/word_perplexity", 12.0, None)
    assert found.tasks["quiz/word_perplexity"]["higher_is_better"] is False


def test_other_examples_are_not_paired() -> None:
    found = read(result([1.0, 0.0]), result([0.0, 0.0], docs="other"))
    acc = found.measured[0]
    assert (acc.before, acc.change, acc.change_low) == (0.0, 0.5, None), "no interval of a change over unlike examples"


def test_what_is_no_number_is_left_out() -> None:
    found = read(result([1.0], **{"alias,none": "quiz", "f1,none": float("nan")}))
    assert [one.metric for one in found.measured] == ["quiz/acc", "quiz/word_perplexity"]


def test_a_filter_is_part_of_the_name_and_versions_are_told() -> None:
    found = read(result([1.0], **{"exact,strict-match": 0.5}))
    assert "quiz/exact,strict-match" in found.tasks
    assert harness_notes(found.tasks, 10) == [
        "quiz: version 2.0 of the task, 5 examples shown",
        "the first 10 examples of each task only: not to be compared with published scores",
    ]
