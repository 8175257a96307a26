"""How surprising is the answer to the model?"""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from methods.rank._scored import answers_given_prompts
from methods.streamed import MeasuredRank
from schemas.method import TOKENS_PER_WORD, Expected, Using


class Perplexity(MeasuredRank):
    """Answers by the model's loss on them: the least surprising first, the most, or those around the median.

    Score: minus the mean loss per answer token in nats (``low``), that loss itself (``high``), or minus its distance from
    the pool's median (``middle``); null where an answer is empty, truncated or could not be scored. Parts: ``loss``,
    ``sum_logprob_cond``, ``n_tokens``, ``truncated``.

    Paper: Harada et al. 2025, Massive supervised fine-tuning experiments, https://arxiv.org/abs/2506.14681: lower
    perplexity of the training data under the base model predicts the gain. ``middle``: Marion et al. 2023, When less is
    more, https://arxiv.org/abs/2309.04564.
    """

    method: Literal["perplexity"] = "perplexity"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    order: Literal["low", "high", "middle"] = Field("low", description="which perplexity comes first")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One scoring a row."""
        return Expected(1 * rows, round(1 * rows * words * TOKENS_PER_WORD))

    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """See `MeasuredRank`."""
        said = answers_given_prompts(pool, using, "answers given prompts")
        return said.select(pool["id"], pl.all())

    def scores(self, measured: pl.DataFrame) -> pl.DataFrame:
        """See `MeasuredRank`; the median is the pool's."""
        usable = ~(pl.col("truncated") | pl.col("failed"))
        loss = pl.when(usable).then(-pl.col("sum_logprob") / pl.col("n_tokens"))
        middle = pl.col("loss").median()
        by = {"low": -pl.col("loss"), "high": pl.col("loss"), "middle": -(pl.col("loss") - middle).abs()}
        return measured.with_columns(loss.alias("loss")).select(
            "id",
            by[self.order].alias("score"),
            "loss",
            pl.col("sum_logprob").alias("sum_logprob_cond"),
            "n_tokens",
            pl.col("truncated").cast(pl.UInt8),
        )
