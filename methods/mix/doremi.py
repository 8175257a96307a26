"""Which sources could be learned better than a reference learned them? Their weight rises."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.mix._online import OnlineMix, learn
from methods.mixtures.online import doremi
from methods.mixtures.runs import Lab, conversations, draw, mean_loss
from schemas.errors import BackendError
from schemas.method import Using


class DoReMi(OnlineMix):
    """Group distributionally robust: weights rise with the proxy's loss above that of a reference trained on the prior.

    In each round the proxy learns examples drawn evenly from all sources, each source's loss weighed, then its loss on a
    sample of every source is compared with the reference's. The mean over rounds is the result, 0 to 1, sum 1. What it
    minimizes is the worst source's excess, so a target set decides nothing here but the final comparison.

    Paper: Xie et al. 2023, DoReMi, https://arxiv.org/abs/2305.10429
    """

    method: Literal["doremi"] = "doremi"

    eta: float = Field(1.0, gt=0, description="step of the update")
    uniform_share: float = Field(1e-3, ge=0, le=1, description="share of the weights that is spread evenly each round")
    prior: Literal["natural", "uniform"] = Field("natural", description="what the reference is trained on")
    sample: int = Field(32, ge=1, description="examples of each source on which the excess is measured")

    def session(self, lab: Lab, rng_seed: int, using: Using, known: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """See `OnlineMix`."""
        count = len(lab.sources)
        even = np.full(count, 1 / count)
        samples = [draw(lab, {name: min(self.sample, f.height)}, rng_seed) for name, f in lab.train.items()]
        reference = using.tune.start(rng_seed)
        prior = lab.sizes / lab.sizes.sum() if self.prior == "natural" else even
        reference.learn(conversations(self.batch(lab, prior, self.proxy_examples, rng_seed)), epochs=self.proxy_epochs)
        wanted = _by_source(reference, samples)
        session, shares, path = using.tune.start(rng_seed), even, list[np.ndarray]()
        for turn in range(self.rounds):
            rows = self.batch(lab, even, self.per_round(), 1000 * (rng_seed + 1) + turn)
            worth = dict(zip(lab.sources, (shares * count).tolist(), strict=True))
            learn(session, rows, [worth[str(name)] for name in rows["source"]])
            shares = doremi(shares, _by_source(session, samples) - wanted, self.eta, self.uniform_share)
            path.append(shares)
        return path


def _by_source(session: Any, samples: Sequence[pl.DataFrame]) -> np.ndarray:
    losses = [mean_loss(session.losses(conversations(frame))) for frame in samples]
    if any(loss is None for loss in losses):
        raise BackendError("a proxy's loss is no longer a finite number; lower the tuner's learning_rate")
    return np.array(losses, dtype=np.float64)
