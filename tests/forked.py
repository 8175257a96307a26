"""Processes that a test can kill, forked from one that has imported what they need: tens of milliseconds instead of seconds.

Python has one such process for all its users, so what it imports beforehand is listed here. None of it starts a
thread of Python's or a pool of polars'.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.storage.writers", "tests.backends.llm._c6_run", "cli.main", "flows.curate", "flows.generate"]
)


def begun(work: Callable[..., None], *arguments: Any, said: Path, **environment: str) -> BaseProcess:
    """A process that does this work; what it prints is added to the file ``said``."""
    process = CONTEXT.Process(target=_work, args=(work, arguments, str(said), {**os.environ, **environment}))
    process.start()
    return process


def provender(*words: str) -> None:
    """The command line, for ``begun``."""
    from cli.main import main

    sys.argv = ["provender", *words]
    main()


def _work(work: Callable[..., None], arguments: tuple[Any, ...], said: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    work(*arguments)
