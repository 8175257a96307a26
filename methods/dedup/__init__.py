"""The dedup methods as one union: a new file in this folder is a new choice everywhere."""

from typing import TYPE_CHECKING

from schemas.method import DedupMethod
from schemas.union import one_of

if TYPE_CHECKING:
    AnyDedup = DedupMethod  # what callers rely on
else:
    AnyDedup = one_of(__name__, DedupMethod, "method")
