"""Landlock, seccomp and resource limits: a sandbox that needs no package and no privilege, on Linux 5.13 or newer."""

import os
import platform
import sys
from typing import ClassVar, Literal

from pydantic import Field

from backends.base import BackendConfig, speed
from backends.sandbox._engine import SandboxEngine, identity_of
from backends.sandbox._run import Box


class LandlockSandbox(BackendConfig):
    """Programs run in a child that may read Python and its own empty folder, and may do nothing else to the machine."""

    billed: ClassVar[bool] = False

    backend: Literal["landlock"] = "landlock"
    packages: bool = Field(
        default=False, description="whether programs may import the packages installed beside Provender"
    )
    workers: int = speed(default_factory=lambda: os.cpu_count() or 1, ge=1, description="programs at the same time")

    def identity(self) -> dict[str, object]:
        """The kind decides no program's result; Python's version and the packages do."""
        return identity_of(super().identity(), self.packages)

    def open(self) -> SandboxEngine:
        """``BackendError`` where the kernel offers no Landlock, or it does not hold."""
        return SandboxEngine(self.identity(), Box(lambda scratch: (), True, self.packages, self.workers), "landlock")


def offered() -> bool:
    """Whether this system could have it at all."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
