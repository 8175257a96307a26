"""How far can a decontamination rule be trusted? Reviewed precision per rule and benchmark, with an interval."""

import polars as pl
from pydantic import BaseModel, ConfigDict

from methods.stats import wilson
from schemas.lineage import DatasetRef
from storage.packs.reviews import count, reviews
from storage.store import Store


class Precision(BaseModel):
    """How many reviewed hits of a rule on a benchmark were accepted; the interval is Wilson's at 95 %.

    ``precision`` is None, and the interval 0 to 1, where nothing was reviewed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    benchmark: str
    hits: int
    reviewed: int
    accepted: int
    precision: float | None
    low: float
    high: float


def precision(store: Store, ref: DatasetRef) -> list[Precision]:
    """Reviewed precision per rule and benchmark, most hits first; a hit that nobody reviewed only counts as a hit."""
    met = count(store, ref).group_by("rule", "benchmark").agg(pl.col("hits").sum())
    total = {(str(rule), str(benchmark)): int(n) for rule, benchmark, n in met.iter_rows()}
    said: dict[tuple[str, str], list[bool]] = {place: [] for place in total}
    for review in reviews(store, ref):
        said.setdefault((review.rule, review.benchmark), []).append(review.verdict == "accept")
    found: list[Precision] = []
    for (rule, benchmark), accepted in said.items():
        share = wilson(sum(accepted), len(accepted))
        found.append(
            Precision(
                rule=rule,
                benchmark=benchmark,
                hits=total.get((rule, benchmark), 0),
                reviewed=len(accepted),
                accepted=sum(accepted),
                precision=share.estimate if accepted else None,
                low=share.low,
                high=share.high,
            )
        )
    return sorted(found, key=lambda p: (-p.hits, p.rule, p.benchmark))
