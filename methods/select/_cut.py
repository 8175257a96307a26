"""What every cut needs: the pool in order of its scores, and verdicts that say how close it was."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from methods.verdicts import keep_or_reject
from schemas.errors import InvariantViolation
from schemas.lineage import Rule

OVER_BUDGET = Rule(name="over-budget", says="others scored higher, and the budget was used up", direction="keep-above")
UNSCORED = Rule(name="unscored", says="the ranking could not score it")


def ranked(pool: pl.DataFrame, ranking: pl.DataFrame) -> pl.DataFrame:
    """Columns ``row`` (of the pool), ``source``, ``score``, best first: higher score, null last, ties by id.

    Raises ``InvariantViolation`` where the ranking is not one finite or null score per example of the pool.
    """
    scores, rows = finite_scores(ranking), pool.select("id", "source").with_row_index("row")
    # A stored ranking is in the pool's order: a join would only build a table of all ids.
    same = scores["id"].equals(pool["id"])
    joined = rows.with_columns(scores["score"]) if same else rows.join(scores, on="id", how="inner")
    if joined.height != pool.height or scores.height != pool.height:
        raise InvariantViolation(
            f"the ranking has {scores.height} scores, {joined.height} of them for the {pool.height} examples of the pool"
        )
    order = joined.select(pl.arg_sort_by("score", "id", descending=[True, False], nulls_last=True))["score"]
    return joined.select("row", "source", "score")[order]


def finite_scores(ranking: pl.DataFrame) -> pl.DataFrame:
    """Columns ``id`` and ``score`` (Float64). Raises ``InvariantViolation`` for a score that is neither finite nor null."""
    scores = ranking.select("id", pl.col("score").cast(pl.Float64))
    bad = scores.filter(pl.col("score").is_nan() | pl.col("score").is_infinite()).height
    if bad:
        raise InvariantViolation(f"{bad} scores of the ranking are not finite; a score is a finite number or null")
    return scores


def verdicts(pool: pl.DataFrame, order: pl.DataFrame, kept_rows: np.ndarray, *, drop_unscored: bool) -> pl.DataFrame:
    """Verdicts in the pool's order, each with its score; what is not kept is over budget, or unscored."""
    keep = np.zeros(pool.height, dtype=bool)
    keep[kept_rows] = True
    score = order.select(pl.col("score").gather(pl.arg_sort_by("row")))["score"]
    frame = pl.DataFrame({"score": score, "keep": keep})
    unscored = pl.col("score").is_null() & pl.lit(drop_unscored)
    reason = (
        pl.when(pl.col("keep"))
        .then(None)
        .when(unscored)
        .then(pl.lit(UNSCORED.name))
        .otherwise(pl.lit(OVER_BUDGET.name))
    )
    return keep_or_reject(pool["id"], frame.select(reason.alias("reason"))["reason"], score=frame["score"])


def settled(rules: Sequence[Rule], said: pl.DataFrame) -> list[Rule]:
    """The rules, with the lowest kept score as the threshold of the budget's."""
    lowest = said.filter(pl.col("fate") == "keep")["score"].min()
    threshold = float(lowest) if isinstance(lowest, float) else None
    return [
        rule.model_copy(update={"threshold": threshold}) if rule.name == OVER_BUDGET.name else rule for rule in rules
    ]


def estimated_tokens(messages: str = "messages") -> pl.Expr:
    """Tokens of an example without a tokenizer: its UTF-8 bytes over four, rounded up, and four more per turn."""
    contents = pl.col(messages).list.eval(pl.element().struct.field("content").fill_null("").str.len_bytes())
    return (contents.list.sum().cast(pl.Float64) / 4).ceil().cast(pl.Int64) + 4 * pl.col(messages).list.len().cast(
        pl.Int64
    )
