"""What a set-wise selection shares: its budget in examples, rows in the order of their ids, and verdicts with places."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.verdicts import keep_or_reject
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import SelectMethod

NOT_CHOSEN = Rule(name="not-chosen", says="the examples that were chosen cover it, and the budget was used up")


class SetBudget(SelectMethod):
    """A budget in examples or as a share of the pool; larger than the pool keeps the pool."""

    keep_examples: int | None = Field(None, gt=0, description="how many examples to keep")
    keep_fraction: float | None = Field(None, gt=0, le=1, description="which share of the pool to keep, rounded down")

    @model_validator(mode="after")
    def _one_budget(self) -> "SetBudget":
        if (self.keep_examples is None) == (self.keep_fraction is None):
            raise ValueError("give one of keep_examples and keep_fraction")
        return self

    def rules(self) -> Sequence[Rule]:
        """``not-chosen``."""
        return (NOT_CHOSEN,)

    def room(self, rows: int) -> int:
        """Examples to keep of a pool of ``rows``."""
        wanted = self.keep_examples if self.keep_examples is not None else int((self.keep_fraction or 0) * rows + 1e-9)
        return min(wanted, rows)


def by_id(pool: pl.DataFrame) -> np.ndarray:
    """Positions of the rows in the order of their ids: what makes a greedy choice independent of the rows' order."""
    return pool["id"].arg_sort().to_numpy().astype(np.int64)


def chosen(
    pool: pl.DataFrame,
    kept: np.ndarray,
    score: np.ndarray,
    evidence: dict[int, dict[str, Any]] | None = None,
    reason: str = NOT_CHOSEN.name,
) -> pl.DataFrame:
    """Verdicts that keep these positions of the pool; ``score`` per row (NaN for none), ``evidence`` by position."""
    keep = np.zeros(pool.height, dtype=bool)
    keep[kept] = True
    said: list[str | None] = [None] * pool.height
    for at, found in (evidence or {}).items():
        said[at] = canonical_json(found)
    return keep_or_reject(pool["id"], [None if k else reason for k in keep], score=score, evidence=said)
