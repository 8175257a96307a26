"""What does training teach? The share of an answer's loss that a model tuned on the pool has lost."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.conversation import as_turns, teaches
from methods.keyed import by_key, keyed_hashes
from methods.rank._scored import answers_given_prompts
from schemas.errors import EmptyStage
from schemas.method import RankMethod, Using


class Learnability(RankMethod):
    """Examples that a proxy learns first: hard before it was tuned on the pool, easy afterwards.

    Score: (loss before - loss after) / loss before, at most 1; what is easy already and what stays hard both score near 0,
    what got worse is negative. Null where an answer was truncated or could not be scored. ``difference`` leaves the
    division out (RHO-loss), and then follows the length of the answers. Parts: ``loss_base``, ``loss_tuned``, ``n_tokens``.

    Paper: Zhou et al. 2023, LoBaSS, https://arxiv.org/abs/2310.13008; as DavIR, ACL 2025.
    """

    method: Literal["learnability"] = "learnability"
    needs: ClassVar[frozenset[str]] = frozenset({"tune"})

    normalize: bool = Field(True, description="divide by the loss before; without it long answers win")
    tune_examples: int | None = Field(
        None, gt=0, description="tune on so many examples of the pool, drawn by id; all by default"
    )

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; takes one number from ``rng``. Raises ``EmptyStage`` where nothing can be learned."""
        seed = int(rng.integers(2**31))
        order = by_key(keyed_hashes(pool["id"], seed), pool["id"])[: self.tune_examples]
        shown = [as_turns(messages) for messages in pool["messages"][order].to_list()]
        lessons = [turns for turns in shown if teaches(turns)]
        if not lessons:
            raise EmptyStage(f"learnability: none of {pool.height} examples ends with an answer; filter the pool first")
        tuned = using.tune.tuned(lessons, rng_seed=seed % 10_000)
        before = answers_given_prompts(pool, using, "losses before tuning", llm=using.tune.untuned())
        after = answers_given_prompts(pool, using, "losses after tuning", llm=tuned)
        both = pl.concat([before, after.rename(lambda name: f"{name}_after")], how="horizontal")
        usable = ~(pl.col("truncated") | pl.col("truncated_after") | pl.col("failed") | pl.col("failed_after"))
        base = -pl.col("sum_logprob") / pl.col("n_tokens")
        ref = -pl.col("sum_logprob_after") / pl.col("n_tokens_after")
        return both.select(
            pool["id"],
            pl.when(usable).then(learned(base, ref, self.normalize)).alias("score"),
            base.alias("loss_base"),
            ref.alias("loss_tuned"),
            "n_tokens",
        )


def learned(before: pl.Expr, after: pl.Expr, normalize: bool) -> pl.Expr:
    """Share of the loss that is gone; 0 where there was none."""
    gone = before - after
    return pl.when(before > 0).then(gone / before).otherwise(0.0) if normalize else gone
