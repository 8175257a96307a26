"""Code against its tests in the real sandbox: what passes, what fails, and what only pretends to have passed."""

import pytest

from backends.sandbox.auto import AutoSandbox
from methods.asking.execution import Outcome, code_of, outcomes_of, source_of
from schemas.errors import BackendError

TESTS = "assert double(2) == 4\nassert double(0) == 0"


@pytest.fixture(scope="module")
def sandbox():
    try:
        return AutoSandbox().open()
    except BackendError as error:
        pytest.skip(f"no sandbox on this machine: {error}")


def outcome(answer: str, sandbox, tests: str = TESTS, seconds: float = 5.0) -> Outcome:
    return outcomes_of([(answer, tests)], sandbox, seconds=seconds, memory_bytes=256 * 2**20)[0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("```python\ndef double(x):\n    return 2 * x\n```", None),
        ("def double(x):\n    return x + x", None),
        (
            "Two parts:\n```\ndef double(x):\n    return twice(x)\n```\nand\n```py\ndef twice(x):\n    return 2 * x\n```",
            None,
        ),
        ("def double(x):\n    return x", "tests-failed"),
        ("import sys\nsys.exit(0)", "tests-not-reached"),
        ("import os\nos._exit(0)", "tests-not-reached"),
        ("def double(x):\n    return 2 *", "no-code"),
        ("I would rather not.", "no-code"),
        ("def double(x):\n    return missing", "tests-failed"),
    ],
)
def test_an_answer_passes_only_if_its_tests_ran_to_the_end(answer: str, reason: str | None, sandbox):
    assert outcome(answer, sandbox).reason == reason


def test_what_went_wrong_is_told_in_the_programs_last_line(sandbox):
    assert outcome("def double(x):\n    return missing", sandbox).said == "NameError: name 'missing' is not defined"


def test_a_program_that_does_not_end_is_ended(sandbox):
    assert outcome("while True:\n    pass", sandbox, seconds=0.5).reason == "tests-ended-by-time"


def test_without_tests_nothing_has_passed(sandbox):
    assert outcome("x = 1", sandbox, tests=" ") == Outcome("no-tests")


def test_code_is_parsed_here_and_run_nowhere_but_in_the_sandbox(tmp_path):
    witness = tmp_path / "witness"
    assert code_of(f"open({str(witness)!r}, 'w')") is not None
    assert not witness.exists()
    assert code_of("") is None
    assert code_of("x = '\\d'") == "x = '\\d'"  # a warning of the parser is none of ours


def test_tests_are_a_text_or_a_list_of_lines():
    assert source_of("assert 1") == "assert 1"
    assert source_of(["a = 1", 3, "assert a"]) == "a = 1\nassert a"
    assert source_of({"a": 1}) == source_of(None) == ""
