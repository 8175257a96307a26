"""What selections share: a budget in examples or tokens, rows in the order of their ids, and verdicts with places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.mixtures.rounding import water_fill
from methods.select._cut import estimated_tokens
from methods.verdicts import keep_or_reject
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS, SelectMethod

NOT_CHOSEN = Rule(name="not-chosen", says="the examples that were chosen cover it, and the budget was used up")


@dataclass(frozen=True)
class Purse:
    """What may be spent, and what each row costs, (rows,): 1 each, or its tokens."""

    total: float
    cost: np.ndarray

    def ordered(self, order: np.ndarray) -> "Purse":
        """The same for the rows in another order."""
        return Purse(self.total, self.cost[order])


class SetBudget(SelectMethod):
    """A budget in examples, in tokens, or as a share of the pool; larger than the pool keeps the pool."""

    keep_examples: int | None = Field(default=None, gt=0, description="how many examples to keep")
    keep_fraction: float | None = Field(
        default=None, gt=0, le=1, description="which share of the pool to keep, rounded down"
    )
    budget_tokens: int | None = Field(
        default=None, gt=0, description="how many tokens to keep, estimated as UTF-8 bytes / 4, and 4 for each turn"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "SetBudget":
        given = [n for n in ("keep_examples", "keep_fraction", "budget_tokens") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of keep_examples, keep_fraction and budget_tokens, not {' and '.join(given) or 'none'}"
            )
        return self

    def rules(self) -> Sequence[Rule]:
        """``not-chosen``."""
        return (NOT_CHOSEN,)

    def reads(self) -> tuple[str, ...]:
        """No text; tokens, where they are what is spent."""
        return () if self.budget_tokens is None else (TOKENS,)

    def purse(self, pool: pl.DataFrame) -> Purse:
        """The budget and what each row of the pool takes of it, in the rows' order."""
        if self.budget_tokens is not None:
            return Purse(float(self.budget_tokens), tokens_of(pool))
        rows = pool.height
        wanted = self.keep_examples if self.keep_examples is not None else int((self.keep_fraction or 0) * rows + 1e-9)
        return Purse(float(min(wanted, rows)), np.ones(rows))


def tokens_of(pool: pl.DataFrame) -> np.ndarray:
    """Estimated tokens of each row, float64, (rows,): as they stand in the pool, or counted from its conversations."""
    counted = pool if TOKENS in pool.columns else pool.select(estimated_tokens().alias(TOKENS))
    return counted[TOKENS].to_numpy().astype(np.float64)


def fitting(costs: np.ndarray, room: float) -> int:
    """How many of the first rows fit: it stops at the first that does not.

    >>> fitting(np.array([3.0, 4.0, 1.0]), 6.0)
    1
    """
    return int(np.searchsorted(np.cumsum(costs), room + 1e-9, side="right"))


def shared_out(weights: Sequence[float], room: float, queues: Sequence[np.ndarray]) -> list[int]:
    """How many of the first rows of each queue (their costs, in order) are taken, so that all together cost at most ``room``.

    Each queue has a share of the room in proportion to its weight; what a short one cannot use goes to the others. Then,
    as long as the next row of some queue fits what is left, that of the queue with the most of its share unspent is taken
    (ties: the earlier queue).

    >>> shared_out([1, 1], 10, [np.array([4.0, 4.0]), np.array([3.0, 3.0])])
    [1, 2]
    """
    share = water_fill(weights, room, [float(costs.sum()) for costs in queues])
    taken = [fitting(costs, float(part)) for costs, part in zip(queues, share, strict=True)]
    unspent = [float(part - costs[:n].sum()) for part, costs, n in zip(share, queues, taken, strict=True)]
    left = float(room) - sum(float(costs[:n].sum()) for costs, n in zip(queues, taken, strict=True))
    while True:
        can = [
            i
            for i, (costs, n) in enumerate(zip(queues, taken, strict=True))
            if weights[i] > 0 and n < len(costs) and costs[n] <= left + 1e-9
        ]
        if not can:
            return taken
        best = max(can, key=lambda i: (unspent[i], -i))
        cost = float(queues[best][taken[best]])
        taken[best] += 1
        unspent[best] -= cost
        left -= cost


def by_id(pool: pl.DataFrame) -> np.ndarray:
    """Positions of the rows in the order of their ids: what makes a greedy choice independent of the rows' order."""
    return pool["id"].arg_sort().to_numpy().astype(np.int64)


def chosen(
    pool: pl.DataFrame,
    kept: np.ndarray,
    score: np.ndarray,
    evidence: Mapping[int, Mapping[str, Any]] | pl.Series | None = None,
    reason: str = NOT_CHOSEN.name,
) -> pl.DataFrame:
    """Verdicts that keep these positions of the pool; ``score`` per row (NaN for none); ``evidence`` by position, or as text."""
    keep = np.zeros(pool.height, dtype=bool)
    keep[kept] = True
    reasons = [None if k else reason for k in keep]
    if isinstance(evidence, pl.Series):
        return keep_or_reject(pool["id"], reasons, score=score, evidence=evidence)
    said: list[str | None] = [None] * pool.height
    for at, found in (evidence or {}).items():
        said[at] = canonical_json(found)
    return keep_or_reject(pool["id"], reasons, score=score, evidence=said)


def clusters_told(label: np.ndarray, order: np.ndarray) -> pl.Series:
    """Evidence of each row of a pool, String: the cluster of the rows in ``order``.

    >>> clusters_told(np.array([4, 0, 4]), np.array([2, 0, 1])).to_list()
    ['{"cluster":0}', '{"cluster":4}', '{"cluster":4}']
    """
    placed = np.empty(len(order), dtype=np.int64)
    placed[order] = label
    said = pl.concat_str(pl.lit('{"cluster":'), "label", pl.lit("}"))
    return pl.DataFrame({"label": placed}).select(said.alias("evidence"))["evidence"]
