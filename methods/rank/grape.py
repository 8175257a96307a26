"""Of several answers to one question, the one that fits the model which will learn it."""

import json
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from methods.rank._scored import answers_given_prompts
from methods.streamed import MeasuredRank
from methods.texts.words import normalized
from schemas.examples import prompt_text
from schemas.identity import digest16
from schemas.method import TOKENS_PER_WORD, Expected, Using


class Grape(MeasuredRank):
    """The likeliest answer of each question comes first, under the student; the other answers follow by their distance.

    Score: mean log-probability per token (``mean``) or the sum (``sum``) of the answer, minus that of the best distinct
    answer to the same normalized question: 0 for the best, negative for the others; null where an answer was truncated or
    could not be scored, and where a question has fewer than ``min_answers`` distinct answers. To keep exactly one answer
    per question, cut at the number of questions. Parts: ``logprob``, ``answers``, ``n_tokens``.

    Paper: Zhang et al. 2025, The best instruction-tuning data are those that fit, https://arxiv.org/abs/2502.04194
    """

    method: Literal["grape"] = "grape"
    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    normalize: Literal["mean", "sum"] = Field("mean", description="mean: per token; sum: favours short answers")
    min_answers: int = Field(2, ge=1, description="questions with fewer distinct answers are not ranked")
    order: Literal["best", "worst"] = Field(
        "best", description="worst: the least likely answer first, as a sanity check"
    )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One scoring a row."""
        return Expected(rows, round(rows * words * TOKENS_PER_WORD))

    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """See `MeasuredRank`; question and answer as digests of what they say."""
        said = answers_given_prompts(pool, using, "answers given prompts")
        asked = pool.select(prompt_text().fill_null("").alias("text"))["text"].to_list()
        answers = pool["messages"].list.last().to_list()
        return pool.select(
            "id",
            pl.Series("question", [digest16(normalized(text).encode()) for text in asked], pl.Binary),
            pl.Series("answer", [digest16(json.dumps(one, sort_keys=True).encode()) for one in answers], pl.Binary),
            said["sum_logprob"],
            said["n_tokens"],
            (~(said["truncated"] | said["failed"])).alias("usable"),
        )

    def scores(self, measured: pl.DataFrame) -> pl.DataFrame:
        """See `MeasuredRank`. Of equal answers to one question the smallest id stands for all."""
        frame = measured
        value = pl.col("sum_logprob") / (pl.col("n_tokens") if self.normalize == "mean" else 1)
        frame = frame.with_columns(
            logprob=pl.when("usable").then(value),
            first=pl.col("id") == pl.col("id").min().over("question", "answer"),
        ).with_columns(answers=pl.col("first").sum().over("question"))
        ranked = pl.col("usable") & (pl.col("answers") >= self.min_answers) & pl.col("first")
        own = pl.when(ranked).then(pl.col("logprob"))
        distance = own - own.max().over("question") if self.order == "best" else own.min().over("question") - own
        return frame.select("id", distance.alias("score"), "logprob", pl.col("answers").cast(pl.Float64), "n_tokens")
