"""Sources that help each other get more, and what others build on comes first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.mix._proxies import Finding, Job, ProxyMix, Watch, job_of, losses_of
from methods.mixtures.curriculum import three_passes
from methods.mixtures.interactions import best_within_reach, equivalence
from methods.mixtures.runs import Lab, Run
from schemas.errors import UsageError
from schemas.method import Blend, Using


class BeyondIID(ProxyMix):
    """Shares moved, within ``reach``, from sources that are worth least to all others to those that are worth most.

    The worth of a unit of source j to source i is counted in units of i: given as ``interactions``, or measured by short
    runs on n examples of i alone (n/2, n, 2n) and on n/2 of each, -1 to 3, on examples held out of each source. A linear
    programme with bounds then starts from the sources' sizes; weights are 0 to 1 and sum to 1. With ``curriculum`` the
    mixture comes out ordered, and ``finetune`` must keep that order (``order: sequential``). ``passes: 3`` writes the paper's
    three epochs out, one after the other, to be trained on once: by stages with foundations repeated, shuffled, and with
    more of what builds on them. Departs from the paper in that interactions can be measured.

    Paper: Zhao et al. 2024, Beyond IID, https://arxiv.org/abs/2409.07045
    """

    method: Literal["beyond-iid"] = "beyond-iid"
    aims: ClassVar[bool] = False

    interactions: dict[str, dict[str, float]] | None = Field(
        None, description="known worth: source i to source j to units of i that one unit of j replaces; else measured"
    )
    reach: float = Field(0.03, ge=0, le=1, description="share of the mixture that may move between sources")
    min_share: float = Field(0.0, ge=0, lt=1, description="least share that a source keeps")
    pair_examples: int = Field(200, ge=8, description="n, the examples of a measuring run")
    curriculum: Literal["none", "dependency"] | tuple[tuple[str, ...], ...] = Field(
        "none",
        description="order of the mixture: none, what helps the others most first, or stages such as [[math, code], [chat]]",
    )
    passes: Literal[1, 3] = Field(
        1, description="of a curriculum: 1, or the three passes of the paper; take and repeats triple"
    )
    repeat_early: float | None = Field(
        None,
        ge=0,
        le=1,
        description="passes: share of the first stage that stands in the first pass twice; .1, from 50,000 on .05",
    )
    hold_back: float = Field(
        0.1,
        ge=0,
        le=1,
        description="passes: share of the last stage that is missing in the first pass and repeated in the third",
    )

    @model_validator(mode="after")
    def _passes_need_an_order(self) -> "BeyondIID":
        if self.passes != 1 and self.curriculum == "none":
            raise ValueError("passes: 3 is a curriculum; set `curriculum: dependency`, or name its stages")
        return self

    def lab(self, pools: Mapping[str, pl.DataFrame], target: pl.DataFrame | None) -> Lab:
        """Measured on examples held out of each source, whatever the target: interactions are among sources."""
        return super().lab(pools, None)

    def weigh(
        self,
        pools: Mapping[str, pl.DataFrame],
        *,
        using: Using,
        rng: np.random.Generator,
        target: pl.DataFrame | None = None,
    ) -> Blend:
        """See `MixMethod`; the blend has stages where there is a curriculum."""
        made = super().weigh(pools, using=using, rng=rng, target=target)
        if self.curriculum == "none" or "help" not in made.notes:
            return made
        stages = self.stages(made.notes["help"])
        if self.passes == 1:
            return replace(made, stages=stages)
        given = {name: n for name, n in made.take.items() if n}
        course = three_passes(given, {name: stages.get(name, 0) for name in given}, self.repeat_early, self.hold_back)
        return replace(made, stages=stages, course=course, take={name: 3 * n for name, n in made.take.items()})

    def stages(self, help_given: Mapping[str, float]) -> dict[str, int]:
        """The stage of each source, from 0; those that the curriculum does not name come last."""
        if isinstance(self.curriculum, str):
            order = sorted(help_given, key=lambda name: (-help_given[name], name))
            return {name: place for place, name in enumerate(order)}
        named = {name: place for place, stage in enumerate(self.curriculum) for name in stage}
        unknown = sorted(set(named) - set(help_given))
        if unknown:
            raise UsageError(f"curriculum names {unknown[0]!r}; the sources are {', '.join(sorted(help_given))}")
        return {name: named.get(name, len(self.curriculum)) for name in help_given}

    def planned(self, lab: Lab) -> list[Run]:
        """Each source alone at three sizes, then each pair of sources, half and half; nothing where worths are given."""
        if self.interactions is not None:
            return []
        seed, passes = self.design_seed, self.proxy_epochs
        alone = [
            Run(f"alone, {n}", {i: n}, seed, passes) for i in lab.groups if i in lab.sources for n in self._sizes()
        ]
        half = self._sizes()[0]
        pairs = [
            Run("pair", {name: half for name in lab.sources if name in (i, j)}, seed, passes)
            for place, i in enumerate(lab.sources)
            for j in lab.sources[place + 1 :]
        ]
        return [*alone, *pairs]

    def first_jobs(self, lab: Lab) -> Sequence[Job]:
        """See `ProxyMix`."""
        return [job_of(run, lab) for run in self.planned(lab)]

    def find(self, lab: Lab, caps: np.ndarray, watch: Watch, rng: np.random.Generator) -> Finding:
        """See `ProxyMix`."""
        runs = self.planned(lab)
        results = [watch(job_of(run, lab)) for run in runs]
        if runs:
            losses_of(runs, results, lab)  # raises where most runs have none
        worth = self._given(lab) if self.interactions is not None else self._measured(lab, runs, results)
        start = lab.sizes / lab.sizes.sum()
        weights = self._importance(lab, start)
        scores = weights @ worth
        low = np.minimum(np.full(len(start), self.min_share), caps)
        shares = best_within_reach(scores, start, self.reach, low, np.minimum(caps, 1.0))
        names = lab.sources
        notes = {
            "interactions": {
                i: dict(zip(names, row.tolist(), strict=True)) for i, row in zip(names, worth, strict=True)
            },
            "worth": dict(zip(names, scores.tolist(), strict=True)),
            "help": dict(zip(names, (scores - weights * np.diag(worth)).tolist(), strict=True)),
            "gain": float(scores @ (shares - start)),
        }
        return Finding(shares, notes, runs, results)

    def _sizes(self) -> list[int]:
        return [max(1, self.pair_examples // 2), self.pair_examples, 2 * self.pair_examples]

    def _importance(self, lab: Lab, start: np.ndarray) -> np.ndarray:
        """By the user's weights, or, as in the paper, each source by its share in the pool."""
        if self.importance is None:
            return start
        by_group = dict(zip(lab.groups, self.weights_of(lab).tolist(), strict=True))
        return np.array([by_group.get(name, 0.0) for name in lab.sources])

    def _given(self, lab: Lab) -> np.ndarray:
        known = self.interactions or {}
        unknown = sorted({*known, *(j for row in known.values() for j in row)} - set(lab.sources))
        if unknown:
            raise UsageError(f"interactions name {unknown[0]!r}; the sources are {', '.join(lab.sources)}")
        own = {name: {name: 1.0} | known.get(name, {}) for name in lab.sources}
        return np.array([[own[i].get(j, 0.0) for j in lab.sources] for i in lab.sources], dtype=np.float64)

    def _measured(self, lab: Lab, runs: Sequence[Run], results: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Worth of j (column) to i (row); 0 where a run has no finite loss, and of sources too small to hold out from."""
        found = {tuple(run.take.items()): result["losses"] for run, result in zip(runs, results, strict=True)}
        sizes, worth = self._sizes(), np.eye(len(lab.sources))
        for row, i in enumerate(lab.sources):
            if i not in lab.groups:
                continue
            alone = [found[((i, n),)][i] for n in sizes]
            for column, j in enumerate(lab.sources):
                both = tuple((name, sizes[0]) for name in lab.sources if name in (i, j))
                if row != column and None not in alone and found[both][i] is not None:
                    worth[row, column] = equivalence(sizes, alone, found[both][i], sizes[0], sizes[0])
        return worth
