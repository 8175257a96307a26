"""What would still be hard after a little training? Measured on a sample, foreseen from the words of the rest."""

from math import ceil
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.keyed import by_key, keyed_hashes
from methods.mixtures.runs import conversations, mean_loss
from methods.points.vectors import On, text_on
from methods.proxy_signals import SIGNAL_VERSION, by_chunk, digest, drawn, over_pool, session_when_needed, taught
from methods.texts.naive_bayes import BernoulliBayes
from methods.texts.words import words
from methods.training_filter import Plan, filtered_training, word_numbers
from schemas.method import RankMethod, Using


class Multistage(RankMethod):
    """Examples that a briefly tuned proxy still finds hard come first; the others would be skipped in training.

    ``offline``: stage one tunes a proxy on a part of the pool; stage two measures the loss of a sample under it, hard being
    what lies above the sample's mean; stage three foresees hardness for the whole pool from its words, by Bernoulli naive
    Bayes. Score: log-odds of being hard, in nats, unbounded, 0 = even; every score is 0 where all losses are alike. Part:
    ``loss``, nats per token, of the sample, else null.

    ``training``: the proxy trains on the pool for ``passes`` while it chooses. After a warm-up on everything, an example is
    trained on only where its loss reaches the mean of the warm-up's last ``window``, and is not even measured once the
    words tell well enough (``certainty``). Score: passes in which it was trained on, plus the chance, 0 to 1, of being hard
    by its words. Parts: ``loss`` (first measured), ``learned``, ``measured`` and ``skipped`` passes.

    Null without an answer. Noise is hard as well: clean the pool first.

    Paper: Ouyang et al. 2023, Efficient NLP model finetuning via multistage data filtering,
    https://arxiv.org/abs/2207.14386. Its own form is ``training``.
    """

    method: Literal["multistage"] = "multistage"
    needs: ClassVar[frozenset[str]] = frozenset({"tune"})

    form: Literal["offline", "training"] = Field(
        "offline",
        description="offline: a sample is measured after a short training; training: filtered while it trains",
    )
    warmup_fraction: float = Field(
        0.05, gt=0, le=1, description="share of the pool, drawn by id, that the proxy learns unfiltered"
    )
    sample_examples: int = Field(512, ge=2, description="examples, drawn by id, whose loss is measured")
    on: On = Field("both", description="text whose words count: prompt, answer or both")
    min_texts: int = Field(2, ge=1, description="words of fewer measured examples (training: of the pool) do not count")
    passes: int = Field(1, ge=1, description="training: epochs over the pool")
    batch_examples: int = Field(16, ge=1, description="training: examples of one step")
    window: int = Field(
        128, ge=1, description="training: latest losses that make the threshold, and guesses that are judged"
    )
    certainty: float = Field(
        0.5, gt=0, description="training: mean surprise, in nats, at which the words begin to decide"
    )

    def reads(self) -> tuple[str, ...]:
        """The conversation, and the hash that it is remembered by."""
        return ("content_hash", "messages")

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; takes one number from ``rng``."""
        seed = int(rng.integers(2**31))
        rows = taught(pool, f"rank {self.method}")
        if self.form == "training":
            return self._while_training(pool, rows, using, seed)
        warm = drawn(rows, ceil(self.warmup_fraction * rows.height), seed)
        sample = drawn(rows, self.sample_examples, seed + 1)
        losses = self._losses(sample, warm, using, seed)
        known = np.isfinite(losses)
        said = [set(words(text)) for text in rows.select(text=text_on(self.on))["text"].to_list()]
        place = {example: at for at, example in enumerate(rows["id"].to_list())}
        measured = [said[place[example]] for example, fine in zip(sample["id"].to_list(), known, strict=True) if fine]
        odds = BernoulliBayes(measured, hard(losses[known]), self.min_texts)
        score = np.array([odds(text) for text in said])
        found = over_pool(pool, rows, score=score)
        return found.with_columns(over_pool(pool, sample, loss=losses)["loss"])

    def _while_training(self, pool: pl.DataFrame, rows: pl.DataFrame, using: Using, seed: int) -> pl.DataFrame:
        """One session, remembered as a whole."""
        said = [set(words(text)) for text in rows.select(text=text_on(self.on))["text"].to_list()]
        orders = [by_key(keyed_hashes(rows["id"], seed + 1 + n), rows["id"]) for n in range(self.passes)]
        plan = Plan(self.batch_examples, ceil(self.warmup_fraction * rows.height), self.window, self.certainty)

        def make() -> dict[str, Any]:
            course = filtered_training(
                using.tune.start(seed % 10_000), conversations(rows), word_numbers(said, self.min_texts), orders, plan,
                lambda done, total: using.progress(done, total, "examples trained on or passed over"),
            )  # fmt: skip
            return {
                "loss": [None if np.isnan(x) else float(x) for x in course.loss],
                "hard": [float(x) for x in 1 / (1 + np.exp(-np.clip(course.odds, -500, 500)))],
                **{name: getattr(course, name).tolist() for name in ("learned", "measured", "skipped")},
            }

        what = {"what": "multistage training", "method": self.identity(), "rows": digest(rows), "rng_seed": seed}
        done = using.once({**what, "version": SIGNAL_VERSION}, make)
        columns = {
            name: np.array(done[name], dtype=np.float64) for name in ("learned", "measured", "skipped", "hard", "loss")
        }
        frame = over_pool(pool, rows, score=columns["learned"] + columns["hard"], **columns)
        return frame.drop("hard")

    def _losses(self, sample: pl.DataFrame, warm: pl.DataFrame, using: Using, seed: int) -> np.ndarray:
        """Mean loss of each row under the tuned proxy, (rows,), NaN where there is none."""
        fresh = session_when_needed(using, seed % 10_000)
        ready = list[bool]()

        def measure(part: pl.DataFrame) -> dict[str, Any]:
            session = fresh()
            if not ready:
                session.learn(conversations(warm), epochs=1.0)
                ready.append(True)
            return {"losses": [mean_loss([one]) for one in session.losses(conversations(part))]}

        what = {"what": "multistage", "warm": digest(warm), "rng_seed": seed}
        found = by_chunk(sample, what, measure, using, "losses of the sample")
        return np.array([np.nan if x is None else x for one in found for x in one["losses"]], dtype=np.float64)


def hard(losses: np.ndarray) -> list[bool]:
    """Which losses lie above their mean; none where they are all alike.

    >>> hard(np.array([1.0, 1.0, 4.0]))
    [False, False, True]
    """
    if not len(losses) or np.ptp(losses) <= 1e-9:
        return [False] * len(losses)
    return (losses > losses.mean()).tolist()
