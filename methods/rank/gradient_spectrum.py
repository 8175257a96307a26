"""How does an example pull at a model's attention? Wide and gently, or hard in a few directions."""

from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.mixtures.runs import conversations
from methods.points.spectra import summary
from methods.proxy_signals import by_chunk, over_pool, session_when_needed, taught
from schemas.errors import UsageError
from schemas.method import RankMethod, Using


class GradientSpectrum(RankMethod):
    """Examples whose gradient over the attention's projections has a high effective rank, or a low nuclear norm, first.

    One gradient per example under the untuned proxy; singular values per layer and projection (q, k, v, o), averaged over
    both. Score by ``effective-rank``: 1 to the largest rank (0 where there is no gradient), the measure that the paper
    finds steadier; by ``nuclear-norm``: minus the norm, 0 at most. Parts: ``nuclear_norm``, ``effective_rank``. Null
    without an answer. Long answers have higher ranks, so compare with ``length`` before you trust it.

    Paper: Li et al. 2025, How instruction and reasoning data shape post-training, https://arxiv.org/abs/2504.10766
    """

    method: Literal["gradient-spectrum"] = "gradient-spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"tune"})

    by: Literal["effective-rank", "nuclear-norm"] = Field("effective-rank", description="what the score is")
    matrices: tuple[str, ...] | None = Field(
        None, description="only these projections, such as [v_proj, o_proj]; all of the attention by default"
    )

    def reads(self) -> tuple[str, ...]:
        """The conversation, and the hash that it is remembered by."""
        return ("content_hash", "messages")

    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `RankMethod`; draws no number. ``UsageError`` for a projection that the proxy does not have."""
        rows = taught(pool, f"rank {self.method}")
        session = session_when_needed(using, 0)

        def measure(part: pl.DataFrame) -> dict[str, Any]:
            values = [summary(self._wanted(one)) for one in session().spectra(conversations(part))]
            return {"values": [[round(x, 9) for x in pair] for pair in values]}

        what = {"what": "gradient spectrum", "matrices": self.matrices and sorted(self.matrices)}
        found = by_chunk(rows, what, measure, using, "gradients")
        values = np.array([pair for one in found for pair in one["values"]], dtype=np.float64)
        nuclear, rank = values[:, 0], values[:, 1]
        score = rank if self.by == "effective-rank" else -nuclear
        return over_pool(pool, rows, score=score, nuclear_norm=nuclear, effective_rank=rank)

    def _wanted(self, spectra: Any) -> Any:
        unknown = sorted(set(self.matrices or ()) - set(spectra))
        if unknown:
            raise UsageError(f"the proxy has no projection {unknown[0]!r}; it has {', '.join(spectra)}")
        return {name: spectra[name] for name in self.matrices} if self.matrices else spectra
