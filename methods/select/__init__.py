"""The select methods as one union: a new file in this folder is a new choice everywhere."""

from typing import TYPE_CHECKING

from schemas.method import SelectMethod
from schemas.union import one_of

if TYPE_CHECKING:
    AnySelect = SelectMethod  # what callers rely on
else:
    AnySelect = one_of(__name__, SelectMethod, "method")
