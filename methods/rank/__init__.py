"""The rank methods as one union: a new file in this folder is a new choice everywhere."""

from typing import TYPE_CHECKING

from schemas.method import RankMethod
from schemas.union import one_of

if TYPE_CHECKING:
    AnyRank = RankMethod  # what callers rely on
else:
    AnyRank = one_of(__name__, RankMethod, "method")
