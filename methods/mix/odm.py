"""A bandit over the sources: the one whose batches still cost most loss is trained on more."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.mix._online import OnlineMix, learn
from methods.mixtures.online import odm, odm_exploration, odm_reward
from methods.mixtures.runs import Lab, draw
from schemas.errors import BackendError, UsageError
from schemas.method import Using


class ODM(OnlineMix):
    """Online data mixing by Exp3: each batch comes from one source; its training loss is the source's reward.

    ``rounds`` are here groups of batches over which the mixture is averaged for the notes. The mean over all batches is
    the result, 0 to 1, sum 1. The reward is what the model does not know yet, so a target set decides nothing here but
    the final comparison, and a source that cannot be learned (noise) is sought, not shunned.

    Paper: Albalak et al. 2023, Online Data Mixing, https://arxiv.org/abs/2312.02406
    """

    method: Literal["odm"] = "odm"

    batch_examples: int = Field(16, ge=1, description="examples of one batch, all of one source")
    memory: float = Field(0.9, ge=0, lt=1, description="weight of the past in a source's moving reward")
    reward_scale: float = Field(15.0, gt=0, description="a loss of one nat is worth so much; larger is sharper")
    least_exploration: float = Field(0.03, ge=0, le=1, description="share of each source below which none falls")

    def session(self, lab: Lab, rng_seed: int, using: Using, known: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """See `OnlineMix`. Raises ``UsageError`` for a session so short that it only explores."""
        count, rng = len(lab.sources), np.random.default_rng([rng_seed, 17])
        steps = max(count, round(self.proxy_examples * self.proxy_epochs / self.batch_examples))
        if steps <= count * math.log(count):
            raise UsageError(
                f"odm explores {count} sources evenly for {math.ceil(count * math.log(count))} batches and the session has "
                f"{steps}: it would end where it began; raise proxy_examples or lower batch_examples"
            )
        queues = [_queue(lab, name, steps * self.batch_examples, rng_seed, rng) for name in lab.sources]
        used = [0] * count
        session, rewards = using.tune.start(rng_seed), np.zeros(count)
        before, path = 1 / count, list[np.ndarray]()
        for step in range(1, steps + 1):
            now = odm_exploration(count, step, self.least_exploration)
            # Every source is met once before the bandit chooses: the paper's warm-up.
            shares = np.full(count, 1 / count) if step <= count else odm(rewards, before, now)
            arm = step - 1 if step <= count else int(rng.choice(count, p=shares / shares.sum()))
            rows = queues[arm][used[arm] : used[arm] + self.batch_examples]
            used[arm] += self.batch_examples
            loss = float(np.mean(learn(session, rows)))
            if not np.isfinite(loss):
                raise BackendError("the proxy's loss is no longer a finite number; lower the tuner's learning_rate")
            rewards = odm_reward(rewards, arm, loss * self.reward_scale / count, shares, self.memory)
            before = now
            path.append(shares)
        parts = np.array_split(np.array(path), min(self.rounds, len(path)))
        return [part.mean(axis=0) for part in parts]


def _queue(lab: Lab, name: str, examples: int, rng_seed: int, rng: np.random.Generator) -> pl.DataFrame:
    """The source's examples in a random order, again and again, as many as a whole session may take."""
    rows = draw(lab, {name: min(examples, lab.train[name].height)}, rng_seed)
    passes = -(-examples // rows.height)
    return rows[np.concatenate([rng.permutation(rows.height) for _ in range(passes)])]
