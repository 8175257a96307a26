"""The command line in this process: importing everything anew costs seconds, and what it says and its exit code are the same."""

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def provender(*words: str, home: Path) -> Done:
    """``provender …`` as typed in ``home``, errors turned into a line and an exit code by ``cli.main.main``."""
    said, told, before = io.StringIO(), io.StringIO(), sys.argv
    os.environ["PROVENDER_HOME"] = str(home)
    sys.argv = ["provender", *words]
    code: object = 0
    try:
        with contextlib.chdir(home), contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    assert isinstance(code, int), code
    return Done(code, said.getvalue(), told.getvalue())
