"""bubblewrap: namespaces of its own for the child, over a view of Python that is read-only throughout; seccomp, limits."""

import shutil
import sys
from pathlib import Path
from typing import Literal

from backends.sandbox import _confine
from backends.sandbox._engine import SandboxConfig, SandboxEngine
from backends.sandbox._run import Box, readable
from schemas.errors import MissingExtra


class BubblewrapSandbox(SandboxConfig):
    """Programs run in their own user, process, network and mount namespaces over a read-only view of Python."""

    backend: Literal["bubblewrap"] = "bubblewrap"

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
    for path in (*readable(packages), sys.prefix, str(Path(_confine.__file__).parent)):
        words += ["--dev-bind-try" if path.startswith("/dev/") else "--ro-bind-try", path, path]
    # What bubblewrap makes to hang the mounts on lies in memory that no ceiling counts: nothing may be written there.
    return [*words, "--bind", str(scratch), str(scratch), "--remount-ro", "/", "--chdir", str(scratch)]
