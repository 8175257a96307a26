"""Landlock, seccomp and resource limits: a sandbox that needs no package and no privilege, on Linux 5.13 or newer."""

import platform
import sys
from typing import Literal

from backends.sandbox._engine import SandboxConfig, SandboxEngine
from backends.sandbox._run import Box


class LandlockSandbox(SandboxConfig):
    """Programs run in a child that may read Python and its own empty folder, and may do nothing else to the machine."""

    backend: Literal["landlock"] = "landlock"

    def open(self) -> SandboxEngine:
        """``BackendError`` where the kernel offers no Landlock, or it does not hold."""
        return SandboxEngine(self.identity(), Box(lambda scratch: (), True, self.packages, self.workers), "landlock")


def offered() -> bool:
    """Whether this system could have it at all."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
