"""The filter methods as one union: a new file in this folder is a new choice everywhere."""

from typing import TYPE_CHECKING

from schemas.method import FilterMethod
from schemas.union import one_of

if TYPE_CHECKING:
    AnyFilter = FilterMethod  # what callers rely on
else:
    AnyFilter = one_of(__name__, FilterMethod, "method")
