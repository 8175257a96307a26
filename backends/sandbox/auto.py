"""The strongest sandbox that this machine offers, found and tried when it is opened; none means that nothing runs."""

from typing import Literal

from backends.sandbox._engine import SandboxConfig, SandboxEngine
from backends.sandbox.bubblewrap import BubblewrapSandbox
from backends.sandbox.landlock import LandlockSandbox, offered
from schemas.errors import BackendError


class AutoSandbox(SandboxConfig):
    """bubblewrap where it holds, else Landlock where it holds, else an error that says what to install."""

    backend: Literal["auto"] = "auto"

    def open(self) -> SandboxEngine:
        """Raises ``BackendError`` with what each kind lacks."""
        lacks: list[str] = []
        for kind in (BubblewrapSandbox, *([LandlockSandbox] if offered() else [])):
            try:
                return kind(packages=self.packages, workers=self.workers).open()
            except BackendError as error:
                lacks.append(str(error))
        raise BackendError(f"no sandbox holds here, so generated code is not run: {' / '.join(lacks)}")
