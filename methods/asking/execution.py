"""Does generated code pass its tests? It runs in the sandbox, and nowhere else."""

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backends.protocols import Program, Ran, Sandbox

_BLOCK = re.compile(r"```[ \t]*+(?:python3?|py)?+[ \t]*+\r?\n(.*?)(?:\r?\n)?```", re.DOTALL | re.IGNORECASE)

#: Characters of a program's last words that evidence keeps.
_SHOWN = 300


@dataclass(frozen=True)
class Outcome:
    """Why an answer's code did not pass (None: it did), and the last line that it wrote on its way out."""

    reason: str | None
    said: str = ""


def code_of(text: str) -> str | None:
    r"""The Python blocks of an answer, joined; the whole answer where it has no block but parses as Python; else None.

    >>> code_of("Here:\n```python\nx = 1\n```\nand\n```\ny = 2\n```"), code_of("def f():\n    return 1"), code_of("I cannot.")
    ('x = 1\n\ny = 2', 'def f():\n    return 1', None)
    """
    blocks = [block for block in _BLOCK.findall(text) if block.strip()]
    if blocks:
        return "\n\n".join(blocks)
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(text, "<answer>", "exec", dont_inherit=True)  # parsed only; nothing of it runs here
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
    return text if text.strip() else None


def source_of(tests: Any) -> str:
    r"""Tests as source code: a text as it is, a list (as MBPP has them) one under the other, anything else none.

    >>> source_of(["assert f(1) == 2", "assert f(2) == 3"])
    'assert f(1) == 2\nassert f(2) == 3'
    """
    if isinstance(tests, list):
        return "\n".join(line for line in tests if isinstance(line, str))
    return tests if isinstance(tests, str) else ""


def outcomes_of(
    pairs: Sequence[tuple[str, str]], sandbox: Sandbox, *, seconds: float, memory_bytes: int
) -> list[Outcome]:
    """Whether the code of each answer runs through with its tests (source code) behind it, in order.

    Reasons: ``no-code``, ``no-tests``, ``tests-failed``, ``tests-not-reached`` (it left before them, with exit code 0), or
    ``tests-ended-by-<ceiling>``. Equal programs run once.
    """
    programs: dict[tuple[str, str], Program] = {}
    keys: list[tuple[str, str] | None] = []
    for answer, tests in pairs:
        code = code_of(answer)
        key = (code, tests) if code is not None and tests.strip() else None
        keys.append(key)
        if key is not None and key not in programs:
            source = f"{key[0]}\n\n{tests}\n\n__import__('os').write(1, b'\\n{_mark(*key)}')\n"
            programs[key] = Program(source, seconds=seconds, memory_bytes=memory_bytes)
    ran = dict(zip(programs, sandbox.run(list(programs.values())), strict=True)) if programs else {}
    return [
        _outcome(ran[key], _mark(*key)) if key is not None else Outcome("no-tests" if not tests.strip() else "no-code")
        for key, (_, tests) in zip(keys, pairs, strict=True)
    ]


def _mark(code: str, tests: str) -> str:
    """What the program writes last, and only if it gets there: nothing that the code could know."""
    return hashlib.sha256(f"{code}\x1f{tests}".encode()).hexdigest()


def _outcome(ran: Ran, mark: str) -> Outcome:
    last = (ran.stderr.strip().splitlines() or [""])[-1][:_SHOWN]
    if ran.ok:
        return Outcome(None if ran.stdout.rstrip().endswith(mark) else "tests-not-reached", last)
    return Outcome(f"tests-ended-by-{ran.ended_by}" if ran.ended_by else "tests-failed", last)
