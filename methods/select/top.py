"""Keep the highest scores within a budget of examples or tokens."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.select._budget import SetBudget, fitting
from methods.select._cut import OVER_BUDGET, UNSCORED, ranked, settled, verdicts
from schemas.lineage import Rule
from schemas.method import Using


class Top(SetBudget):
    """The best examples, in order of their scores, until the budget is used up.

    A larger budget keeps everything that a smaller one keeps: a token budget stops at the first example that does not
    fit. Examples without a score come last. A budget larger than the pool keeps the pool. Score: that of the ranking.

    Paper: none, baseline.
    """

    method: Literal["top"] = "top"

    drop_unscored: bool = Field(
        default=False, description="drop what the ranking could not score even where there is room"
    )

    def rules(self) -> Sequence[Rule]:
        """Over budget; and unscored, where that is a reason."""
        return [OVER_BUDGET, UNSCORED] if self.drop_unscored else [OVER_BUDGET]

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """The threshold is the lowest score that was kept."""
        return settled(self.rules(), verdicts)

    def cut(self, pool: pl.DataFrame, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `SelectMethod`; draws no number."""
        order = ranked(pool, ranking)
        eligible = order.filter(pl.col("score").is_not_null()) if self.drop_unscored else order
        rows = eligible["row"].to_numpy()
        purse = self.purse(pool)
        room = fitting(purse.cost[rows], purse.total)
        return verdicts(pool, order, rows[:room], drop_unscored=self.drop_unscored)
