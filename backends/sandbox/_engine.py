"""A sandbox that has been tried before it is used."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from backends.protocols import Program, Ran
from backends.sandbox._run import Box, probe, run_all
from schemas.errors import BackendError


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


def identity_of(own: Mapping[str, Any], packages: bool) -> dict[str, Any]:
    """What decides how a program ends: Python's version, and whether packages may be imported; not the kind of box."""
    major, minor, _ = platform.python_version_tuple()
    return {"version": own["version"], "sandbox": "confined", "python": f"{major}.{minor}", "packages": packages}
