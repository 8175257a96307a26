"""Every error a user can meet, as one tree. Each message names the place, the value and the way out.

::

    ProvenderError                  exit 1
    ├── UsageError                  exit 2   a wrong command line, name or parameter
    │   ├── BadName                          a dataset or tag name that is refused
    │   └── RecipeError                      every mistake of a recipe at once
    ├── SourceError                 exit 3   data that cannot be read
    │   ├── MissingSource
    │   ├── UnreadableSource                 wrong magic, truncated, mis-encoded, wrong shape
    │   ├── UntrustedSource                  a bomb, a device, a path that leads out
    │   └── MalformedSource                  more malformed rows than `max_malformed_fraction`
    ├── StoreError                  exit 4
    │   ├── MissingDataset
    │   ├── NewerStore
    │   ├── CorruptStore
    │   ├── InvariantViolation               a step that breaks conservation cannot commit
    │   ├── Conflict                         a tag moved under our feet
    │   ├── StoreUnwritable                  full disk, read-only, no permission, I/O error
    │   └── StoreUnreachable                 object storage does not answer or refuses the credentials
    ├── BackendError                exit 5
    │   ├── MissingExtra                     the package of a backend is not installed
    │   ├── EngineDown                       not started, not healthy, stalled
    │   └── CannotScore                      the engine gives no log-probabilities
    ├── EmptyStage                  exit 6   a stage that keeps nothing
    ├── GateClosed                  exit 7   contamination, conservation or licence forbids training
    ├── BudgetExceeded              exit 75  stopped cleanly, resumable
    └── Stopped                     exit 130 Ctrl-C, SIGTERM or a STOP file; resumable
"""

from collections.abc import Sequence
from typing import ClassVar


class ProvenderError(Exception):
    """Base of all errors that are the user's to mend; the CLI prints them as one line, anything else as a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(ProvenderError):
    """A wrong command line, name or parameter."""

    exit_code: ClassVar[int] = 2


class BadName(UsageError):
    """A dataset, source or tag name with a separator, control character or reserved word."""


class RecipeError(UsageError):
    """Every mistake of a recipe, each with its YAML path."""

    def __init__(self, place: str, mistakes: Sequence[str]) -> None:
        self.place = place
        self.mistakes = tuple(mistakes)
        told = "a valid recipe" if place.lower().endswith((".yaml", ".yml")) else "valid"  # else an option, or a method
        super().__init__(f"{place} is not {told}:\n" + "\n".join(f"  {mistake}" for mistake in self.mistakes))

    def __reduce__(self) -> tuple[type["RecipeError"], tuple[str, tuple[str, ...]]]:
        """Pickled by its two parts: errors cross process boundaries."""
        return type(self), (self.place, self.mistakes)


class SourceError(ProvenderError):
    """Data that cannot be read as examples."""

    exit_code: ClassVar[int] = 3


class MissingSource(SourceError):
    """No such file, folder or dataset."""


class UnreadableSource(SourceError):
    """Wrong magic, truncated footer, wrong encoding, unknown shape."""


class UntrustedSource(SourceError):
    """A decompression bomb, a device, a link that leads out of its folder, too many columns or too long a line."""


class MalformedSource(SourceError):
    """A larger share of malformed rows than the recipe allows."""


class StoreError(ProvenderError):
    """The dataset store refuses or cannot do what was asked."""

    exit_code: ClassVar[int] = 4


class MissingDataset(StoreError):
    """No version, tag or example of that name."""


class NewerStore(StoreError):
    """The store was written by a newer release."""


class CorruptStore(StoreError):
    """Bytes that do not match their digest, or a manifest that names what is not there."""


class InvariantViolation(StoreError):
    """A commit in which rows would vanish or appear without a reason."""


class Conflict(StoreError):
    """Another process moved what this one expected to move."""


class StoreUnwritable(StoreError):
    """Full disk, read-only folder, missing permission or failed fsync; nothing is half-committed."""


class StoreUnreachable(StoreError):
    """Object storage that does not answer, has no such bucket or refuses these credentials; nothing is half-committed."""


class BackendError(ProvenderError):
    """An engine cannot be opened or cannot answer."""

    exit_code: ClassVar[int] = 5


class MissingExtra(BackendError):
    """A package that an optional backend needs is not installed."""


class EngineDown(BackendError):
    """The engine is not running, not healthy, or has stalled."""


class CannotScore(BackendError):
    """The engine gives no token log-probabilities."""


class EmptyStage(ProvenderError):
    """A stage kept nothing: what follows would train on nothing."""

    exit_code: ClassVar[int] = 6


class GateClosed(ProvenderError):
    """A dataset that must not be trained on: contaminated, unchecked, not conserved, or not licensed for it."""

    exit_code: ClassVar[int] = 7


class BudgetExceeded(ProvenderError):
    """A ceiling on tokens, money or time was reached; the run stopped cleanly and resumes where it stood."""

    exit_code: ClassVar[int] = 75


class Stopped(ProvenderError):
    """Ctrl-C, SIGTERM or a STOP file; what was committed stays and a rerun goes on from there."""

    exit_code: ClassVar[int] = 130
