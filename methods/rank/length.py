"""How long is the answer? A baseline that is hard to beat."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.conversation import content_at
from methods.streamed import MeasuredRank
from methods.texts.ngrams import word_streams
from schemas.method import Using


class Length(MeasuredRank):
    """Long answers first (or short ones).

    Score: the answer's words or characters, negative with ``order: shortest``; a blank answer scores 0. Words are those
    of any script: a Chinese character counts as one.

    Paper: Zhao et al. 2024, Long is more for alignment, https://arxiv.org/abs/2402.04833, which counts tokens; Xia et
    al. 2024, Rethinking data selection at scale, https://arxiv.org/abs/2410.09335. For the student's own tokens use
    `length-tokens`.
    """

    method: Literal["length"] = "length"
    per_example: ClassVar[bool] = True

    unit: Literal["words", "characters"] = Field("words", description="what is counted")
    order: Literal["longest", "shortest"] = Field("longest", description="which answers come first")

    def measured(self, pool: pl.DataFrame, using: Using) -> pl.DataFrame:
        """See `MeasuredRank`; calls no engine."""
        answers = pool.select(content_at(-1).alias("answer"))["answer"]
        if self.unit == "words":
            pieces = [stream.lengths for _, stream in word_streams(answers)]
            size = pl.Series("score", np.concatenate([np.zeros(0, dtype=np.int64), *pieces]))
        else:
            size = answers.str.len_chars()
        sign = 1.0 if self.order == "longest" else -1.0
        return pl.DataFrame({"id": pool["id"], "score": size.cast(pl.Float64) * sign + 0.0})
