"""Keep the highest scores within a budget of examples or tokens."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.select._cut import OVER_BUDGET, UNSCORED, estimated_tokens, ranked, settled, verdicts
from schemas.lineage import Rule
from schemas.method import SelectMethod, Using


class Top(SelectMethod):
    """The best examples, in order of their scores, until the budget is used up.

    A larger budget keeps everything that a smaller one keeps: a token budget stops at the first example that does not
    fit. Examples without a score come last. A budget larger than the pool keeps the pool. Score: that of the ranking.

    Paper: none, baseline.
    """

    method: Literal["top"] = "top"

    keep_examples: int | None = Field(None, gt=0, description="how many examples to keep")
    keep_fraction: float | None = Field(
        default=None, gt=0, le=1, description="which share of the pool to keep, rounded down"
    )
    budget_tokens: int | None = Field(
        default=None, gt=0, description="how many tokens to keep, estimated as UTF-8 bytes / 4, and 4 for each turn"
    )
    drop_unscored: bool = Field(
        default=False, description="drop what the ranking could not score even where there is room"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "Top":
        given = [n for n in ("keep_examples", "keep_fraction", "budget_tokens") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of keep_examples, keep_fraction and budget_tokens, not {' and '.join(given) or 'none'}"
            )
        return self

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
        if self.budget_tokens is not None:
            tokens = pool.select(estimated_tokens().alias("tokens"))["tokens"].to_numpy()[rows]
            room = int(np.searchsorted(np.cumsum(tokens), self.budget_tokens, side="right"))
        else:
            room = self.keep_examples or int((self.keep_fraction or 0) * pool.height + 1e-9)
        return verdicts(pool, order, rows[:room], drop_unscored=self.drop_unscored)
