"""What does a little more of each source do right now? Measured in every round, and followed."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from methods.mix._online import OnlineMix, learn, measured
from methods.mixtures.designs import spiked
from methods.mixtures.online import aioli, mixing_matrix, normalized_matrix
from methods.mixtures.runs import Lab
from methods.mixtures.simplex import exponentiated
from schemas.errors import UsageError
from schemas.method import Using


class Aioli(OnlineMix):
    """Online estimate of the linear mixing law: a part of each round is spent on one spiked mixture per source.

    The drops of all groups' losses give the matrix A of ``drops = A @ mixtures``; normalized (see
    `methods.mixtures.online`) and weighed by the groups' importance, its column sums move the mixture, whose moving
    average the rest of the round is trained on. Losses fall fastest at first, so the trials of every second round come in the
    reverse of a random order. The mean over rounds is the result, 0 to 1, sum 1.

    Paper: Chen et al. 2025, Aioli, https://arxiv.org/abs/2411.05735
    """

    version: ClassVar[int] = 2
    method: Literal["aioli"] = "aioli"

    eta: float = Field(0.2, gt=0, description="step of the update")
    spike: float = Field(0.75, gt=0, lt=1, description="share of the one source in a spiked mixture")
    sweeps: int = Field(1, ge=1, description="times each spiked mixture is tried in a round")
    explore: float = Field(0.5, gt=0, lt=1, description="share of a round's examples that spiked mixtures get")
    memory: float = Field(0.1, ge=0, lt=1, description="weight of the earlier mixtures in the moving average")

    def session(self, lab: Lab, rng_seed: int, using: Using, known: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """See `OnlineMix`. Raises ``UsageError`` where the examples do not suffice for one trial per source."""
        count = len(lab.sources)
        trials = [row for _ in range(self.sweeps) for row in spiked(count, self.spike)]
        each = int(self.per_round() * self.explore / len(trials))
        if each < 1:
            raise UsageError(
                f"aioli tries {len(trials)} mixtures in a round of {self.per_round()} examples; raise proxy_examples "
                "or lower rounds"
            )
        session, weights = using.tune.start(rng_seed), self.weights_of(lab)
        raw = trained = np.full(count, 1 / count)
        before, path = measured(session, lab), list[np.ndarray]()
        rng, order = np.random.default_rng([rng_seed, 18]), np.arange(len(trials))
        for turn in range(self.rounds):
            order = order[::-1] if turn % 2 else rng.permutation(len(trials))
            drops = np.zeros((len(trials), len(lab.groups)))
            for number in order.tolist():
                seed = 100_000 * (rng_seed + 1) + 1000 * turn + number
                learn(session, self.batch(lab, trials[number], each, seed))
                after = measured(session, lab)
                drops[number] = before - after
                before = after
            matrix = mixing_matrix(drops.T, np.array(trials).T)
            matrix = normalized_matrix(matrix) * (weights * len(weights))[:, None]
            raw = aioli(raw, matrix * count, self.eta)
            trained = exponentiated(self.memory * trained + (1 - self.memory) * raw, np.zeros(count), 0.0)
            rest = max(1, self.per_round() - each * len(trials))
            learn(session, self.batch(lab, trained, rest, 100_000 * (rng_seed + 1) + 1000 * turn + 999))
            before = measured(session, lab)
            path.append(trained)
        return path
