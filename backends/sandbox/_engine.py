"""A sandbox that has been tried before it is used."""

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from backends.base import BackendConfig, speed
from backends.protocols import Program, Ran
from backends.sandbox._run import Box, probe, run_all
from schemas.errors import BackendError


class SandboxConfig(BackendConfig):
    """What every kind of sandbox can be told. The kind is no identity: it decides no program's result."""

    billed: ClassVar[bool] = False

    packages: bool = Field(
        default=False, description="whether programs may import the packages installed beside Provender"
    )
    workers: int = speed(default_factory=lambda: os.cpu_count() or 1, ge=1, description="programs at the same time")

    def identity(self) -> dict[str, Any]:
        """Python's version, and whether packages may be imported."""
        major, minor, _ = platform.python_version_tuple()
        return {
            "version": self.version,
            "sandbox": "confined",
            "python": f"{major}.{minor}",
            "packages": self.packages,
        }


class SandboxEngine:
    """Runs programs in a box whose confinement was tried when it was opened."""

    def __init__(self, identity: Mapping[str, Any], box: Box, kind: str) -> None:
        self._identity, self._box, self.kind = dict(identity), box, kind
        breaches = probe(box)
        if breaches:
            raise BackendError(
                f"the {kind} sandbox does not hold on this machine: {'; '.join(breaches)}; install bubblewrap "
                "(apt-get install bubblewrap) or use a kernel with Landlock; generated code is not run without one"
            )

    def identity(self) -> Mapping[str, Any]:
        """The config's."""
        return self._identity

    def run(self, programs: Sequence[Program]) -> list[Ran]:
        """One result per program, in order."""
        return run_all(self._box, programs)
