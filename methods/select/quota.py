"""Keep the highest scores of each source, so that no source crowds out the others."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.mixtures.rounding import largest_remainder
from methods.select._budget import fitting, shared_out, tokens_of
from methods.select._cut import OVER_BUDGET, UNSCORED, ranked, settled, verdicts
from schemas.errors import UsageError
from schemas.lineage import Rule
from schemas.method import TOKENS, SelectMethod, Using


class Quota(SelectMethod):
    """The best examples of each source: fixed counts per source, or shares of one budget.

    With ``keep_examples`` or ``budget_tokens`` each source gets its share (``shares``, by default equal ones); what a small
    source cannot fill goes to the others in proportion. With ``quotas`` a source gives at most its count, in examples or
    tokens, and a source that is not named gives ``others``. Tokens are estimated as UTF-8 bytes / 4, and 4 for each turn;
    a quota of tokens stops at the first example that does not fit. Ties by id. Score: that of the ranking.

    Paper: none, baseline. Over a `uniform` ranking this is the balanced random baseline.
    """

    method: Literal["quota"] = "quota"

    keep_examples: int | None = Field(default=None, gt=0, description="how many examples to keep in all")
    budget_tokens: int | None = Field(
        None, gt=0, description="how many tokens to keep in all, instead of keep_examples"
    )
    shares: dict[str, float] = Field({}, description="share of the budget per source; empty = equal shares for all")
    quotas: dict[str, int] | None = Field(None, description="most per source, instead of a budget for all")
    others: int = Field(0, ge=0, description="with quotas: most of a source that is not named")
    quota_unit: Literal["examples", "tokens"] = Field("examples", description="what quotas and others count")
    drop_unscored: bool = Field(False, description="drop what the ranking could not score even where there is room")

    @model_validator(mode="after")
    def _one_budget(self) -> "Quota":
        given = [n for n in ("keep_examples", "budget_tokens", "quotas") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of keep_examples, budget_tokens (with shares) and quotas, not {' and '.join(given) or 'none'}"
            )
        if self.shares and self.quotas is not None:
            raise ValueError("shares divide keep_examples or budget_tokens; quotas are counts already")
        if self.quota_unit == "tokens" and self.quotas is None:
            raise ValueError("quota_unit says what quotas count; there are none")
        if any(count < 0 for count in (self.quotas or {}).values()):
            raise ValueError("a quota is a count, 0 or more")
        if self.shares and (min(self.shares.values()) < 0 or not 0 < sum(self.shares.values()) < float("inf")):
            raise ValueError("shares are 0 or more, finite, and not all 0")
        return self

    def reads(self) -> tuple[str, ...]:
        """The source; tokens, where they are what is counted."""
        return ("source", TOKENS) if self._in_tokens() else ("source",)

    def rules(self) -> Sequence[Rule]:
        """Over its source's quota; and unscored, where that is a reason."""
        return [OVER_BUDGET, UNSCORED] if self.drop_unscored else [OVER_BUDGET]

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """The threshold is the lowest score that was kept in any source."""
        return settled(self.rules(), verdicts)

    def cut(self, pool: pl.DataFrame, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `SelectMethod`; draws no number. Raises ``UsageError`` for a source that the pool does not have."""
        order = ranked(pool, ranking)
        eligible = order.filter(pl.col("score").is_not_null()) if self.drop_unscored else order
        known = set(pool["source"].unique())
        unknown = sorted((set(self.shares) | set(self.quotas or {})) - known)
        if unknown:
            raise UsageError(f"quota names the source {unknown[0]!r}; the pool has {', '.join(sorted(known))}")
        queues = {
            str(name): part["row"].to_numpy()
            for (name,), part in sorted(
                eligible.group_by("source", maintain_order=True), key=lambda one: str(one[0][0])
            )
        }  # positions of the rows of each source, best first
        kept = [rows[:room] for rows, room in zip(queues.values(), self._room(pool, queues), strict=True)]
        return verdicts(
            pool, order, np.concatenate(kept or [np.empty(0, dtype=np.int64)]), drop_unscored=self.drop_unscored
        )

    def _room(self, pool: pl.DataFrame, queues: dict[str, np.ndarray]) -> list[int]:
        """Examples that each source gives."""
        tokens = tokens_of(pool) if self._in_tokens() else np.ones(pool.height)
        costs = [tokens[rows] for rows in queues.values()]
        if self.quotas is not None:
            most = [self.quotas.get(name, self.others) for name in queues]
            return [fitting(cost, room) for cost, room in zip(costs, most, strict=True)]
        weights = [self.shares.get(name, 0.0) if self.shares else 1.0 for name in queues]
        if self.budget_tokens is not None:
            return shared_out(weights, self.budget_tokens, costs)
        return largest_remainder(weights, self.keep_examples or 0, [len(rows) for rows in queues.values()])

    def _in_tokens(self) -> bool:
        return self.budget_tokens is not None or self.quota_unit == "tokens"
