"""pass@k: the estimator's vectors and its definition, and programs that are really run."""

import json
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from backends.protocols import Reply, Request
from backends.sandbox.auto import AutoSandbox
from methods.measuring.evaluation import evaluate
from methods.measuring.pass_at_k import pass_at_k, pass_rates, unit_tests_of
from schemas.errors import UsageError
from schemas.examples import turns
from tests.methods.filter._rows import conversations
from tests.methods.llm_doubles import AnswersBy

RIGHT, WRONG = "```python\ndef f(x):\n    return x + 1\n```", "```python\ndef f(x):\n    return x\n```"
ROWS = conversations(
    turns(("user", "Add one: f"), ("assistant", RIGHT)),
    turns(("user", "Talk"), ("assistant", "Hello")),
    extra=[json.dumps({"tests": ["assert f(1) == 2"]}), None],
)


@pytest.mark.parametrize(
    ("n", "c", "k", "chance"), [(10, 3, 1, 0.3), (10, 3, 5, 0.9166666667), (5, 0, 3, 0.0), (5, 5, 3, 1.0)]
)
def test_vectors(n: int, c: int, k: int, chance: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(chance)


def test_the_estimate_is_the_share_of_draws_that_hold_a_pass() -> None:
    for n, c, k in ((6, 2, 3), (5, 1, 2), (7, 4, 4)):
        draws = list(combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    with pytest.raises(UsageError, match="at least k samples"):
        pass_at_k(2, 1, 3)


def test_tests_are_found_in_the_original_row() -> None:
    assert unit_tests_of(json.dumps({"test_list": ["assert f(1)", "assert f(2)"]})) == "assert f(1)\nassert f(2)"
    assert unit_tests_of(json.dumps({"other": 1})) == unit_tests_of(None) == ""


def test_programs_run_and_the_share_of_passing_ones_counts() -> None:
    def coder(request: Request) -> str | Reply:
        return RIGHT if request.sampling.index < 2 else WRONG

    rates = pass_rates(AnswersBy(coder), ROWS, AutoSandbox().open(), k=1, samples=4, max_new_tokens=32)
    assert rates == [pytest.approx(0.5), None]


def test_a_program_that_does_not_end_has_not_passed_and_the_next_one_runs() -> None:
    def coder(request: Request) -> str | Reply:
        return RIGHT if request.sampling.index else "while True: pass"

    rates = pass_rates(AnswersBy(coder), ROWS, AutoSandbox().open(), k=2, samples=2, max_new_tokens=32, seconds=1.0)
    assert rates == [1.0, None]  # one of two passes, so two drawn without replacement hold it
    rates = pass_rates(AnswersBy(coder), ROWS, AutoSandbox().open(), k=1, samples=2, max_new_tokens=32, seconds=1.0)
    assert rates == [0.5, None]


def test_an_evaluation_measures_it_and_refuses_without_a_sandbox() -> None:
    model = AnswersBy(lambda request: RIGHT)
    result = evaluate(
        model,
        ROWS,
        rng=np.random.default_rng(0),
        metrics=("pass@k",),
        sandbox=AutoSandbox().open(),
        baseline=AnswersBy(lambda r: WRONG),
    )
    measured = result.report.of("pass@k")
    assert (measured.value, measured.before, measured.examples) == (1.0, 0.0, 1)
    assert (result.report.examples, result.report.unscored) == (2, {"no-tests": 1})  # counted once, not for each model
    assert isinstance(result.examples, pl.DataFrame)
    with pytest.raises(UsageError, match="only a sandbox"):
        evaluate(model, ROWS, rng=np.random.default_rng(0), metrics=("pass@k",))
