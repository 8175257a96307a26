"""The mix methods as one union: a new file in this folder is a new choice everywhere."""

from typing import TYPE_CHECKING

from schemas.method import MixMethod
from schemas.union import one_of

if TYPE_CHECKING:
    AnyMix = MixMethod  # what callers rely on
else:
    AnyMix = one_of(__name__, MixMethod, "method")
