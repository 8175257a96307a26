"""Draw from clusters in rounds, more from those of which the proxy still writes worse than the given answers."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Request, Sampling, ScoreRequest, Turn
from methods.asking.sampling import sample
from methods.conversation import as_turns, teaches
from methods.keyed import keyed_uniform
from methods.mixtures.rounding import largest_remainder
from methods.points.kmeans import kmeans
from methods.points.vectors import On, embedded_in_batches
from methods.select._budget import SetBudget, by_id, chosen, clusters_told, shared_out
from methods.streamed import Batches, EmbeddedCut, rows_at
from schemas.method import Using


class IterativeKmeans(EmbeddedCut, SetBudget):
    """k-means, then ``rounds`` of: draw, fine-tune a proxy on all drawn so far, let it answer, give needy clusters more.

    What a drawn example still teaches is how much likelier the proxy finds its own answer than the given one (mean
    log-probability per token); a cluster's weight is multiplied by its mean, not below ``floor``, each round. Score: the
    round in which an example was drawn, negated; null for the others. Draws follow from ``hash(rng_seed, id)``.

    Paper: Yu et al. 2024, Diversify and conquer, https://arxiv.org/abs/2409.11378, iterative refinement. Departures from
    its code: weights of earlier rounds count, every cluster is drawn from, and perplexity under the proxy is the scorer.
    """

    method: Literal["iterative-kmeans"] = "iterative-kmeans"
    needs: ClassVar[frozenset[str]] = frozenset({"embed", "tune"})
    ranked: ClassVar[bool] = False

    on: On = Field("both", description="text that is embedded: prompt, answer or both")
    clusters: int | None = Field(
        None, ge=1, description="how many clusters; by default the square root of half the pool"
    )
    rounds: int = Field(3, ge=1, le=50, description="rounds over which the budget is spent")
    floor: float = Field(0.05, gt=0, description="least weight of a round's feedback, in nats per token")
    answers_per_cluster: int = Field(
        8, ge=1, description="drawn examples of a cluster that the proxy answers each round"
    )
    max_new_tokens: int = Field(64, ge=1, description="longest answer of the proxy")

    def cut_rows(
        self, rows: pl.DataFrame, texts: Batches, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `EmbeddedCut`; takes one number from ``rng``. Conversations are in memory of what was drawn."""
        seed = int(rng.integers(2**31))
        order = by_id(rows)
        vectors = embedded_in_batches(texts, order, self.on, using)
        count = self.clusters or max(1, round((len(vectors) / 2) ** 0.5))
        label = kmeans(vectors, count, np.random.default_rng(seed)).label
        purse = self.purse(rows).ordered(order)
        key = keyed_uniform(rows["id"][order], seed)
        talks = dict[int, list[Turn]]()
        weights = np.ones(int(label.max()) + 1 if len(label) else 1)
        when = np.full(rows.height, np.nan)
        for number in range(self.rounds):
            using.progress(number, self.rounds, "rounds")
            spent = float(purse.cost[~np.isnan(when)].sum())
            part = (
                int(purse.total) * (number + 1) // self.rounds - spent
            )  # what earlier rounds could not spend included
            left = [np.flatnonzero((label == c) & np.isnan(when)) for c in range(len(weights))]
            left = [members[np.argsort(key[members], kind="stable")] for members in left]
            if self.budget_tokens is None:
                budgets = largest_remainder(weights.tolist(), int(part), [len(members) for members in left])
            else:
                budgets = shared_out(weights.tolist(), part, [purse.cost[members] for members in left])
            for members, budget in zip(left, budgets, strict=True):
                when[members[:budget]] = number
            if number + 1 < self.rounds:
                new = np.flatnonzero(when == number)
                said = rows_at(texts, order[new])["messages"].to_list() if len(new) else []
                talks.update(zip(new.tolist(), map(as_turns, said), strict=True))
                weights = reweighted(weights, self._feedback(talks, label, when, len(weights), using), self.floor)
        score = np.full(rows.height, np.nan)
        score[order] = -when
        return chosen(rows, order[np.flatnonzero(~np.isnan(when))], score, clusters_told(label, order))

    def _feedback(
        self, talks: Mapping[int, list[Turn]], label: np.ndarray, when: np.ndarray, clusters: int, using: Using
    ) -> np.ndarray:
        """Mean advantage of the proxy's own answers over the given ones, per cluster; NaN where none was measured."""
        drawn = [int(i) for i in np.flatnonzero(~np.isnan(when)) if teaches(talks[int(i)])]
        found = np.full(clusters, np.nan)
        if not drawn:
            return found
        proxy = using.tune.tuned([talks[i] for i in drawn])
        asked: list[int] = []
        for cluster in range(clusters):
            asked += [i for i in drawn if label[i] == cluster][-self.answers_per_cluster :]
        greedy = Sampling(max_tokens=self.max_new_tokens)
        replies = sample(proxy, [Request(messages=tuple(talks[i][:-1]), sampling=greedy) for i in asked])
        kept = [(i, reply.text) for i, reply in zip(asked, replies, strict=True) if reply.ok and reply.text.strip()]
        both = [(talks[i][-1].content, text, tuple(talks[i][:-1])) for i, text in kept]
        scored = proxy.logprobs([ScoreRequest(text, asked_) for given, own, asked_ in both for text in (given, own)])
        gains: dict[int, list[float]] = {}
        for n, (i, _) in enumerate(kept):
            given, own = scored[2 * n], scored[2 * n + 1]
            if given.n_tokens and own.n_tokens:
                gain = own.sum_logprob / own.n_tokens - given.sum_logprob / given.n_tokens
                gains.setdefault(int(label[i]), []).append(gain)
        for cluster, values in gains.items():
            found[cluster] = float(np.mean(values))
        return found


def reweighted(weights: np.ndarray, feedback: np.ndarray, floor: float) -> np.ndarray:
    """Each weight times its feedback (at least ``floor``; where none was measured, the mean of the others), summing to 1.

    >>> first = reweighted(np.ones(3), np.array([0.2, 0.5, 0.3]), 0.01)
    >>> reweighted(first, np.array([0.2, 0.5, 0.3]), 0.01).round(3).tolist()
    [0.105, 0.658, 0.237]
    """
    known = ~np.isnan(feedback)
    mean = float(feedback[known].mean()) if known.any() else 1.0
    signal = np.maximum(np.where(known, feedback, mean), floor)
    moved = weights * signal
    return moved / moved.sum()
