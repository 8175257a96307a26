"""How likely is it that one of k programs passes its tests? Estimated without bias from n, run in the sandbox."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from backends.protocols import LLM, Request, Sampling, Sandbox
from methods.asking.execution import outcomes_of, source_of
from methods.conversation import as_turns
from schemas.errors import UsageError

#: Ceilings of one program and its tests.
SECONDS, MEMORY_BYTES = 10.0, 512 * 2**20


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Chance that k programs drawn without replacement from ``samples``, of which ``passed`` pass, hold one that does.

    Paper: Chen et al. 2021, Evaluating large language models trained on code, https://arxiv.org/abs/2107.03374

    >>> round(pass_at_k(10, 3, 1), 4), round(pass_at_k(10, 3, 5), 4), pass_at_k(4, 0, 2), pass_at_k(2, 2, 1)
    (0.3, 0.9167, 0.0, 1.0)
    """
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise UsageError(f"pass@{k} of {passed} passes among {samples} samples is not defined; draw at least k samples")
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def unit_tests_of(extra: str | None) -> str:
    """The tests that came with an example: its original row's ``tests``, ``test`` or ``test_list``; empty where none."""
    fields = json.loads(extra) if extra else {}
    for name in ("tests", "test", "test_list"):
        if found := source_of(fields.get(name)):
            return found
    return ""


def pass_rates(
    llm: LLM,
    examples: pl.DataFrame,
    sandbox: Sandbox,
    *,
    k: int,
    samples: int,
    max_new_tokens: int,
    temperature: float = 0.8,
    seconds: float = SECONDS,
    progress: Callable[[int, str], None] | None = None,
) -> list[float | None]:
    """pass@k of each example that has tests, from ``samples`` replies to the turns before its last; null for the others.

    With one sample the reply is greedy. A reply that failed, and a program that does not end within ``seconds``, count as
    programs that did not pass.
    """
    drawn = Sampling(max_tokens=max_new_tokens, temperature=0.0 if samples == 1 else temperature)
    rates: list[float | None] = []
    for messages, extra in examples.select("messages", "extra").iter_rows():
        tests = unit_tests_of(extra)
        asked = tuple(as_turns(messages[:-1]))
        if not tests or not asked:
            rates.append(None)
        else:
            replies = llm.generate(
                [Request(messages=asked, sampling=replace(drawn, index=index)) for index in range(samples)]
            )
            pairs = [(reply.text if reply.ok else "", tests) for reply in replies]
            ran = outcomes_of(pairs, sandbox, seconds=seconds, memory_bytes=MEMORY_BYTES)
            rates.append(pass_at_k(samples, sum(one.reason is None for one in ran), k))
        if progress:
            progress(1, "running code")
    return rates


def drawn_for(k: int, samples: int | None) -> int:
    """How many replies are drawn for pass@k: as asked, else one for k = 1 and twice k for more."""
    return samples or (1 if k == 1 else 2 * k)


def checked_metrics(metrics: Sequence[str], sandbox: Sandbox | None) -> None:
    """``UsageError`` where code is to be run and there is nothing to run it in."""
    if "pass@k" in metrics and sandbox is None:
        raise UsageError("metric pass@k runs generated code, which only a sandbox may do; give `sandbox`")
