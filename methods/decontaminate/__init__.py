"""The decontaminate methods as one union: a new file in this folder is a new choice everywhere."""

from typing import TYPE_CHECKING

from schemas.method import DecontaminateMethod
from schemas.union import one_of

if TYPE_CHECKING:
    AnyDecontaminate = DecontaminateMethod  # what callers rely on
else:
    AnyDecontaminate = one_of(__name__, DecontaminateMethod, "method")
