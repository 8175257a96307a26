"""The generate methods as one union: a new file in this folder is a new choice everywhere."""

from typing import TYPE_CHECKING

from schemas.method import GenerateMethod
from schemas.union import one_of

if TYPE_CHECKING:
    AnyGenerate = GenerateMethod  # what callers rely on
else:
    AnyGenerate = one_of(__name__, GenerateMethod, "method")
