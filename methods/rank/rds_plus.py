"""Every target example takes its nearest candidate in turn: similarity that serves all of the target."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.keyed import by_key
from methods.points.vectors import On, aimed, blocks_of_cosines, embedded, embedded_in_batches
from methods.spill import Columns
from methods.streamed import Batches, EmbeddedRank
from schemas.method import Using

_CELLS = 40_000_000  # places kept of all queries together


class RdsPlus(EmbeddedRank):
    """Candidates in the order in which the target's examples (or its sources) take them, round-robin, nearest first.

    Score: minus the turn in which a candidate is taken, 0 for the first; those that nobody reaches follow by their largest
    cosine. Part: ``cosine`` to the nearest target example. The representation is the recipe's embedder; the paper's is
    ``backends: {embed: {backend: hidden-states, model: …}}``, the base model's states, there with a chat template around.

    Paper: Ivison et al. 2025, Large-scale data selection for instruction tuning, https://arxiv.org/abs/2503.01807
    """

    method: Literal["rds-plus"] = "rds-plus"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    on: On = Field("both", description="text that is embedded: prompt, answer or both")
    turns: Literal["example", "source"] = Field(
        "example", description="who takes turns: every target example, or every source of the target as one"
    )

    def rank_rows(
        self,
        rows: pl.DataFrame,
        texts: Batches,
        *,
        target: pl.DataFrame | None,
        using: Using,
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """See `EmbeddedRank`; draws no number. Raises ``UsageError`` without a target."""
        aim = aimed(target, self.method).sort("id")
        order = by_key(np.zeros(rows.height), rows["id"])
        vectors = embedded_in_batches(texts, order, self.on, using, "candidates")
        goals = embedded(aim, self.on, using, "target")
        groups = aim["source"].to_list() if self.turns == "source" else list(range(aim.height))
        near = by_group(vectors, goals, [str(g) for g in groups])
        turn, best = round_robin(near.cosine), near.best
        score = np.where(turn >= 0, -turn, -float(rows.height) - 1.0 + best)
        back = np.argsort(order)
        return pl.DataFrame(
            {"id": rows["id"], "score": score[back].astype(np.float64), "cosine": best[back].astype(np.float64)}
        )


@dataclass(frozen=True)
class Near:
    """Largest cosine of each row to the goals of each group, a column a group, and to any goal at all, float32."""

    cosine: Columns
    best: np.ndarray


def by_group(rows: np.ndarray, goals: np.ndarray, groups: list[str]) -> Near:
    """How near each row is to the goals of each group, groups in first-seen order; in a file where it outgrows memory."""
    names = list(dict.fromkeys(groups))
    member = [np.flatnonzero([g == name for g in groups]) for name in names] if len(names) < len(groups) else None
    found = Near(Columns(len(names), len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.float32))
    for start, block in blocks_of_cosines(rows, goals):
        part = block if member is None else np.stack([block[:, m].max(axis=1) for m in member], axis=1)
        found.cosine.put(start, part.T)
        found.best[start : start + len(block)] = part.max(axis=1)
    return found


def round_robin(near: Columns) -> np.ndarray:
    """The turn in which each row is taken, int64; -1 for rows beyond what the queries keep in mind.

    Queries (the columns) in order each take their nearest row that is still free; equal cosines go to the earlier row.

    >>> near = Columns(2, 4, dtype=np.float32)
    >>> near.put(0, np.array([[0.9, 0.5, 0.7, 0.1], [0.8, 0.2, 0.85, 0.1]]))
    >>> round_robin(near).tolist()
    [0, 2, 1, 3]
    """
    rows, queries = near.rows, near.count
    depth = min(rows, max(1, _CELLS // max(1, queries)))
    orders: list[np.ndarray] = []
    for query in range(queries):
        column = near.column(query)
        if depth < rows:
            kept = np.sort(np.argpartition(-column, depth - 1)[:depth])
            order = kept[np.argsort(-column[kept], kind="stable")]
        else:
            order = np.argsort(-column, kind="stable")
        orders.append(order.astype(np.uint32))
    turn = np.full(rows, -1, dtype=np.int64)
    place = [0] * queries
    taken = 0
    alive = list(range(queries))
    while alive and taken < rows:
        still: list[int] = []
        for query in alive:
            order, at = orders[query], place[query]
            while at < len(order) and turn[order[at]] >= 0:
                at += 1
            place[query] = at
            if at < len(order):
                turn[order[at]] = taken
                taken += 1
                still.append(query)
        alive = still
    return turn
