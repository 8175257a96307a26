"""Is an example older than the benchmark? What was written before an item was published cannot be a copy of it."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.verdicts import keep_or_reject
from schemas.errors import UsageError
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import DecontaminateMethod, Using

_LATE, _UNDATED = "after-release", "no-date"


class Temporal(DecontaminateMethod):
    """Keeps the examples that are older than every benchmark named; the others may have seen one.

    An example's date is the first of ``date_fields`` among its row's other fields that reads as a date, else the cut-off
    that ``cutoffs`` gives for its source (the day a generator's training data ended, or a dataset was collected). It is
    unsafe from the earliest release of the benchmarks on. Releases of the shipped packs are known; ``released`` adds those
    of your own, or their file has a column ``released``. It compares no text: by itself it does not open the gate.

    Score: days between the earliest release and the example, negative is safe, null without a date; lower is better.

    Paper: Xia et al. 2025, LeetCodeDataset, https://arxiv.org/abs/2504.14655, section 2 (temporal split).
    """

    method: Literal["temporal"] = "temporal"

    released: Mapping[str, date] = Field({}, description="release date of each benchmark, where it is not known")
    cutoffs: Mapping[str, date] = Field({}, description="source name to the date after which it saw nothing")
    date_fields: tuple[str, ...] = Field(
        ("created_at", "date", "timestamp", "estimated_date"), description="fields of the original row that may date it"
    )
    unknown: Literal["reject", "keep"] = Field("reject", description="what becomes of examples without a date")

    def rules(self) -> Sequence[Rule]:
        """``after-release`` and ``no-date``."""
        return (
            Rule(name=_LATE, says="the example is not older than the benchmark", threshold=0, direction="keep-below"),
            Rule(name=_UNDATED, says="nothing says how old the example is"),
        )

    def judge(
        self, pool: pl.DataFrame, benchmarks: Mapping[str, pl.DataFrame], *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `DecontaminateMethod`; raises ``UsageError`` for a benchmark whose release is not known, and for names in
        ``released`` and ``cutoffs`` that nothing here has.
        """
        if odd := sorted(set(self.released) - set(benchmarks)):
            raise UsageError(
                f"released: {odd[0]!r} is not looked for; benchmarks here are {', '.join(sorted(benchmarks))}"
            )
        if pool.height and (odd := sorted(set(self.cutoffs) - set(pool["source"]))):
            there = ", ".join(sorted(map(str, pool["source"].unique())))
            raise UsageError(f"cutoffs: no example is of source {odd[0]!r}; the pool's sources are {there}")
        first, name = min((self._release(name, items), name) for name, items in benchmarks.items())
        reason: list[str | None] = []
        evidence: list[str] = []
        days: list[float] = []
        for extra, source in pool.select("extra", "source").iter_rows():
            when = date_of(extra, self.date_fields) or self.cutoffs.get(source)
            found = {"benchmark": name, "released": first.isoformat(), "date": when.isoformat() if when else None}
            evidence.append(canonical_json(found))
            days.append(float((when - first).days) if when else float("nan"))
            undated = _UNDATED if self.unknown == "reject" else None
            reason.append(undated if when is None else _LATE if when >= first else None)
        return keep_or_reject(pool["id"], reason, score=np.array(days), evidence=evidence)

    def _release(self, name: str, items: pl.DataFrame) -> date:
        """The earliest date on which an item could be read."""
        if name in self.released:
            return self.released[name]
        known = items["released"].drop_nulls().to_list() if "released" in items.columns else []
        dates = [day for value in known if (day := as_date(value))]
        if not dates:
            raise UsageError(
                f"nothing says when benchmark {name} was released; add `released: {{{name}: 2024-01-31}}` to temporal"
            )
        return min(dates)


def date_of(extra: str | None, fields: Sequence[str]) -> date | None:
    """The first of these fields of a row (canonical JSON) that reads as a date."""
    row: Any = json.loads(extra) if extra else {}
    if not isinstance(row, dict):
        return None
    return next((day for name in fields if (day := as_date(row.get(name)))), None)


def as_date(value: Any) -> date | None:
    """ISO 8601 text, or seconds or milliseconds since 1970; None for anything else.

    >>> as_date("2023-04-05T10:00:00Z"), as_date(0), as_date("soon")
    (datetime.date(2023, 4, 5), datetime.date(1970, 1, 1), None)
    """
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str):
            return date.fromisoformat(value.strip()[:10])
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) > 1e11 else value
            return datetime.fromtimestamp(seconds, UTC).date()
    except (ValueError, OverflowError, OSError):
        return None
    return None
