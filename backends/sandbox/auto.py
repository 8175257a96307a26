"""The strongest sandbox that this machine offers, found and tried when it is opened; none means that nothing runs."""

import os
from typing import ClassVar, Literal

from pydantic import Field

from backends.base import BackendConfig, speed
from backends.sandbox._engine import SandboxEngine, identity_of
from backends.sandbox.bubblewrap import BubblewrapSandbox
from backends.sandbox.landlock import LandlockSandbox, offered
from schemas.errors import BackendError


class AutoSandbox(BackendConfig):
    """bubblewrap where it holds, else Landlock where it holds, else an error that says what to install."""

    billed: ClassVar[bool] = False

    backend: Literal["auto"] = "auto"
    packages: bool = Field(
        default=False, description="whether programs may import the packages installed beside Provender"
    )
    workers: int = speed(default_factory=lambda: os.cpu_count() or 1, ge=1, description="programs at the same time")

    def identity(self) -> dict[str, object]:
        """The kind decides no program's result; Python's version and the packages do."""
        return identity_of(super().identity(), self.packages)

    def open(self) -> SandboxEngine:
        """Raises ``BackendError`` with what each kind lacks."""
        lacks: list[str] = []
        for kind in (BubblewrapSandbox, *([LandlockSandbox] if offered() else [])):
            try:
                return kind(packages=self.packages, workers=self.workers).open()
            except BackendError as error:
                lacks.append(str(error))
        raise BackendError(f"no sandbox holds here, so generated code is not run: {' / '.join(lacks)}")
