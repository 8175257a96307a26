"""How many of the student's tokens has the answer? The length baseline as it is published."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from methods.conversation import content_at
from methods.streamed import MeasuredRank
from schemas.method import Using


class LengthTokens(MeasuredRank):
    """Long answers first (or short ones), in tokens of the configured language model.

    Score: the answer's tokens, negative with ``order: shortest``.

    Paper: Zhao et al. 2024, Long is more for alignment, https://arxiv.org/abs/2402.04833, section 2.
    """

    method: Literal["length-tokens"] = "length-tokens"
    needs: ClassVar[frozenset[str]] = frozenset({"student"})
    per_example: ClassVar[bool] = True

    order: Literal["longest", "shortest"] = Field("longest", description="which answers come first")

    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """See `MeasuredRank`."""
        answers = pool.select(content_at(-1).alias("answer"))["answer"].to_list()
        counts: list[int] = using.student.count_tokens(answers) if answers else []
        sign = 1.0 if self.order == "longest" else -1.0
        return pl.DataFrame(
            {"id": pool["id"], "score": [sign * n + 0.0 for n in counts]}, {"id": pl.Binary, "score": pl.Float64}
        )
