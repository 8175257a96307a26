"""How unlikely are an answer's least likely tokens? A sign of what the model has, or has not, seen before."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from methods.rank._scored import answers_given_prompts
from methods.streamed import MeasuredRank
from schemas.method import TOKENS_PER_WORD, Expected, Using


class MinK(MeasuredRank):
    """Answers whose rarest tokens surprise the student most come first (``new``), or least (``seen``).

    Score: minus (``new``) or plus (``seen``) the mean log-probability of the ``k_fraction`` least likely answer tokens, in
    nats; null where an answer is empty, truncated or could not be scored. Parts: ``tail_logprob``, ``sum_logprob_cond``,
    ``n_tokens``. A text that the model was trained on has few very unlikely tokens.

    Paper: Shi et al. 2024, Detecting pretraining data from large language models, https://arxiv.org/abs/2310.16789
    """

    method: Literal["min-k"] = "min-k"
    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    k_fraction: float = Field(
        0.2, gt=0, le=1, description="share of the answer's tokens that is looked at, the least likely"
    )
    order: Literal["new", "seen"] = Field("new", description="which answers come first")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One scoring a row."""
        return Expected(rows, round(rows * words * TOKENS_PER_WORD))

    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """See `MeasuredRank`."""
        said = answers_given_prompts(pool, using, "answers given prompts", tail=self.k_fraction)
        tail = pl.when(~(pl.col("truncated") | pl.col("failed"))).then(pl.col("tail_logprob"))
        return said.select(
            pool["id"],
            (-tail if self.order == "new" else tail).alias("score"),
            "tail_logprob",
            pl.col("sum_logprob").alias("sum_logprob_cond"),
            "n_tokens",
        )
