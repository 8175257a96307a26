"""Which source teaches which group? A graph of that, and mixtures that go where losses are still high."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from methods.mix._online import OnlineMix, learn, measured, untrained
from methods.mix._proxies import Job, job_of
from methods.mixtures.online import skill_graph, skill_it, skill_it_start
from methods.mixtures.runs import Lab, Run
from schemas.errors import BackendError, UsageError
from schemas.method import Using


class SkillIt(OnlineMix):
    """Skill-It: a graph of how much each source lowers each group's loss, then multiplicative updates by current losses.

    The graph comes from one short run per source (relative drops over the largest), or is given. A round's mixture is
    ``softmax(eta * graph @ losses)`` over a window of evaluations; losses count relative to the untrained model's, unless
    ``normalize_losses`` is off (the paper), so that eta means the same for any data. The result is the mean over rounds,
    0 to 1, sum 1. An empty or complete graph leads to uniform or loss-proportional mixtures.

    Paper: Chen et al. 2023, Skill-It, https://arxiv.org/abs/2307.14430
    """

    method: Literal["skill-it"] = "skill-it"

    eta: float = Field(0.5, gt=0, description="step of the update; 0.1 to 1 in the paper, the larger the sharper")
    window: int = Field(3, ge=1, description="evaluations, one per round, that count")
    reduce: Literal["sum", "mean"] = Field("sum", description="of the losses in the window; the paper sums")
    normalize_losses: bool = Field(True, description="divide each group's loss by that of the untrained model")
    graph: dict[str, dict[str, float]] | None = Field(
        None, description="known effects, source to group to strength of 0 or more; measured by default"
    )
    graph_examples: int = Field(100, ge=8, description="examples of one source that a graph run learns from")

    def groundwork(self, lab: Lab) -> Sequence[Job]:
        """The untrained model, then one short run per source; only the former where the graph is given."""
        runs = [
            Run(f"graph: {name}", {name: self.graph_examples}, self.design_seed, self.proxy_epochs)
            for name in lab.sources
        ]
        return [untrained(lab), *([] if self.graph else [job_of(run, lab) for run in runs])]

    def session(self, lab: Lab, rng_seed: int, using: Using, known: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """See `OnlineMix`."""
        before, graph = _losses(known[0], lab), self.effects(lab, known) * self.weights_of(lab)
        scale = before if self.normalize_losses else np.ones(len(before))
        session = using.tune.start(rng_seed)
        shares, seen = skill_it_start(graph, self.eta), list[np.ndarray]()
        path = [shares]
        for turn in range(self.rounds):
            learn(session, self.batch(lab, shares, self.per_round(), 1000 * (rng_seed + 1) + turn))
            if turn + 1 < self.rounds:
                seen.append(measured(session, lab) / scale)
                shares = skill_it(graph, seen[-self.window :], self.eta, self.reduce)
                path.append(shares)
        return path

    def effects(self, lab: Lab, known: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The graph, (k, m), with groups weighed by their importance: one of equal weights counts as 1."""
        if self.graph is None:
            after = np.array([_losses(result, lab) for result in known[1:]])
            return skill_graph(_losses(known[0], lab), after) * len(lab.groups)
        unknown = sorted(
            {*self.graph} - {*lab.sources} | {g for row in self.graph.values() for g in row} - {*lab.groups}
        )
        if unknown:
            raise UsageError(
                f"graph names {unknown[0]!r}; sources: {', '.join(lab.sources)}; groups: {', '.join(lab.groups)}"
            )
        rows = [[self.graph.get(s, {}).get(g, 0.0) for g in lab.groups] for s in lab.sources]
        return np.array(rows, dtype=np.float64) * len(lab.groups)

    def told(self, lab: Lab, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The graph, source to group to strength."""
        matrix = self.effects(lab, known) / len(lab.groups)
        return {
            "graph": {
                source: dict(zip(lab.groups, row.tolist(), strict=True))
                for source, row in zip(lab.sources, matrix, strict=True)
            }
        }


def _losses(result: Mapping[str, Any], lab: Lab) -> np.ndarray:
    losses = [result["losses"].get(name) for name in lab.groups]
    if any(loss is None for loss in losses):
        raise BackendError("a graph run ended without a finite loss; lower the tuner's learning_rate")
    return np.array(losses, dtype=np.float64)
