"""How much does the prompt help with the answer? Instruction-following difficulty."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from methods.rank._scored import answers_alone, answers_given_prompts
from methods.streamed import MeasuredRank
from schemas.method import TOKENS_PER_WORD, Expected, Using


class IFD(MeasuredRank):
    """Answers that the prompt makes only a little more likely come first: there is something to learn.

    Score: the ratio of the answer's loss given the prompt to its loss alone (``loss-ratio``), or of its perplexities
    (``ppl-ratio``), between 0 and 1. The two rank differently. Null, so that the example ranks last, where the ratio is
    1 or more (the prompt does not help), the answer was truncated in either pass, or could not be scored. Parts:
    ``ratio``, ``sum_logprob_cond``, ``sum_logprob_direct``, ``n_tokens``, ``n_tokens_direct``, ``truncated``.

    Paper: Li et al. 2024, From quantity to quality (Cherry LLM), https://arxiv.org/abs/2308.12032, section 2.2, for the
    loss ratio; Li et al. 2024, Superfiltering, https://arxiv.org/abs/2402.00530, for the perplexity ratio. Departures:
    a ratio of exactly 1 is dropped too (the highest come first, and a prompt that changes nothing would be the best of
    all); the answer's tokens are taken from the chat template, not searched for in decoded text.
    """

    method: Literal["ifd"] = "ifd"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"student"})
    per_example: ClassVar[bool] = True

    variant: Literal["loss-ratio", "ppl-ratio"] = Field(
        "loss-ratio", description="loss-ratio as in Cherry LLM; ppl-ratio as in Superfiltering"
    )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Two scorings a row: with the prompt and without."""
        return Expected(2 * rows, round(2 * rows * words * TOKENS_PER_WORD))

    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """See `MeasuredRank`; two scoring passes."""
        given = answers_given_prompts(pool, using, "answers given prompts")
        alone = answers_alone(pool, using, "answers alone").rename(lambda name: f"{name}_direct")
        both = pl.concat([given, alone], how="horizontal")
        usable = ~(pl.col("truncated") | pl.col("truncated_direct") | pl.col("failed") | pl.col("failed_direct"))
        ratio = ifd_ratio(
            -pl.col("sum_logprob") / pl.col("n_tokens"),
            -pl.col("sum_logprob_direct") / pl.col("n_tokens_direct"),
            self.variant,
        )
        rated = both.with_columns(pl.when(usable & ratio.is_finite()).then(ratio).alias("ratio"))
        return rated.select(
            pool["id"],
            pl.when(pl.col("ratio") < 1).then(pl.col("ratio")).alias("score"),
            "ratio",
            pl.col("sum_logprob").alias("sum_logprob_cond"),
            "sum_logprob_direct",
            "n_tokens",
            "n_tokens_direct",
            (pl.col("truncated") | pl.col("truncated_direct")).cast(pl.UInt8).alias("truncated"),
        )


def ifd_ratio(loss_given: pl.Expr, loss_alone: pl.Expr, variant: str) -> pl.Expr:
    """The two published ratios of mean losses in nats.

    Losses 1.2 given the prompt and 2.0 alone: 0.6 as ``loss-ratio``, exp(-0.8) = 0.449 as ``ppl-ratio``.
    """
    return loss_given / loss_alone if variant == "loss-ratio" else (loss_given - loss_alone).exp()
