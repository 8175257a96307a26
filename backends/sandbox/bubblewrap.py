"""bubblewrap: namespaces of its own for the child, with seccomp, limits and, where there is one, Landlock inside."""

import os
import shutil
import sys
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from backends.base import BackendConfig, speed
from backends.sandbox import _confine
from backends.sandbox._engine import SandboxEngine, identity_of
from backends.sandbox._run import Box, readable
from schemas.errors import MissingExtra


class BubblewrapSandbox(BackendConfig):
    """Programs run in their own user, process, network and mount namespaces over a read-only view of Python."""

    billed: ClassVar[bool] = False

    backend: Literal["bubblewrap"] = "bubblewrap"
    packages: bool = Field(
        default=False, description="whether programs may import the packages installed beside Provender"
    )
    workers: int = speed(default_factory=lambda: os.cpu_count() or 1, ge=1, description="programs at the same time")

    def identity(self) -> dict[str, object]:
        """The kind decides no program's result; Python's version and the packages do."""
        return identity_of(super().identity(), self.packages)

    def open(self) -> SandboxEngine:
        """``MissingExtra`` without the program bwrap; ``BackendError`` where it does not hold."""
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise MissingExtra("the bubblewrap sandbox needs the program bwrap: apt-get install bubblewrap")
        packages = self.packages
        return SandboxEngine(
            self.identity(),
            Box(lambda scratch: _words(bwrap, scratch, packages), False, packages, self.workers),
            "bubblewrap",
        )


def _words(bwrap: str, scratch: Path, packages: bool) -> list[str]:
    """The command that comes before the interpreter's."""
    words = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--dev", "/dev"]
    for path in (*readable(packages), sys.prefix, str(Path(_confine.__file__).parent)):
        if not path.startswith("/dev/"):
            words += ["--ro-bind-try", path, path]
    return [*words, "--bind", str(scratch), str(scratch), "--chdir", str(scratch)]
