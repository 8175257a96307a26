"""What a run has spent of what it may, and how its calls went: from the ledger and from the calls its steps recorded."""

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl

from schemas.errors import MissingDataset, StoreError
from schemas.lineage import DatasetRef, Manifest
from storage.calls.budget import union_seconds
from storage.questions.figures import remembered
from storage.questions.run_troubles import MetOnTheWay, met_on_the_way
from storage.questions.views import Damage, View
from storage.runs import Run, is_dead, runs
from storage.seek import Reader
from storage.store import Store

Unit = Literal["tokens", "usd", "seconds"]

#: A run that has said nothing for so long is marked: a step may be long, but it notes its progress every second.
QUIET_SECONDS = 600.0


class Meter(View):
    """One unit of the account. ``ceiling`` None: the recipe set none, or the run is of a release that did not note it."""

    unit: Unit
    used: float
    in_flight: float = 0.0  # reserved at its worst case, not settled
    lost: float = 0.0  # of ``used``: of killed processes, counted at its worst case
    ceiling: float | None = None


class Account(View):
    """What the ledger holds for a run, together with the unfinished runs that it resumes."""

    calls: int
    unpriced: int
    meters: tuple[Meter, ...]


class CallsMade(View):
    """Calls that the steps this run finished recorded; None stands for what was not recorded."""

    calls: int
    cached: int
    retries: int | None  # requests beyond the first of each call
    failures: tuple[tuple[str, int], ...]  # class and calls, most first


class RunSpending(View):
    """The account of a run and its calls; ``account`` and ``met`` None where the ledger has no word of it."""

    account: Account | None
    calls: CallsMade | None
    met: MetOnTheWay | None = None
    ceilings_noted: bool
    damage: tuple[Damage, ...] = ()


def run_spending(store: Store, run: Run, made: Sequence[str]) -> RunSpending:
    """``made`` are the refs of the steps that this run finished itself, not those it reused."""
    reader = Reader(store)
    damage: list[Damage] = []
    total: CallsMade | None = None
    for ref in made:
        try:
            manifest = reader.manifest(DatasetRef.parse(ref))
            one = _calls(reader, manifest)
        except MissingDataset:
            continue  # removed since, or never of this store
        except (StoreError, OSError, ValueError, pl.exceptions.PolarsError) as error:
            damage.append(Damage(place=ref[:200], problem=str(error)[:300]))
            continue
        total = _sum(total, one)
    return RunSpending(
        account=_account(store.root, run), calls=total, met=met_on_the_way(store.root, run),
        ceilings_noted=run.ceilings is not None, damage=tuple(damage),
    )  # fmt: skip


def resumed_from(root: Path, run: Run) -> str | None:
    """The unfinished run whose account this one draws on: the newest before it."""
    if not run.account or run.account == run.run_id:
        return None
    before = [one for one in runs(root) if one.started_at < run.started_at and run.account in (one.account, one.run_id)]
    return before[0].run_id if before else run.account


def quiet_seconds(root: Path, run: Run) -> float | None:
    """For how long a run that should be working has said nothing, if that is long; None otherwise."""
    if run.status != "running" or is_dead(run):
        return None
    folder = root / "runs" / run.run_id
    said = [path.stat().st_mtime for name in ("events.jsonl", "progress.json", "run.json")
            if (path := folder / name).exists()]  # fmt: skip
    quiet = time.time() - max(said, default=datetime.now(UTC).timestamp())
    return quiet if quiet > QUIET_SECONDS else None


def _calls(reader: Reader, manifest: Manifest) -> CallsMade | None:
    """The calls of one step; None where it made none."""

    def work() -> CallsMade | None:
        if not reader.has(manifest.ref, "calls"):
            return None
        table = reader.scan(manifest.ref, "calls")
        names = table.collect_schema().names()
        counted = "attempts" in names
        small = table.select(
            pl.col("cached").fill_null(value=False),
            pl.col("failure"),
            (pl.col("attempts").fill_null(1).cast(pl.Int64) - 1).clip(0) if counted else pl.lit(0).alias("attempts"),
        ).collect()
        failed = small["failure"].drop_nulls().value_counts(sort=True).rows()
        paid = small.filter(~pl.col("cached"))
        return CallsMade(
            calls=small.height,
            cached=int(small["cached"].sum()),
            retries=int(paid["attempts"].sum()) if counted else None,
            failures=tuple((str(name)[:80], int(count)) for name, count in failed),
        )

    return remembered(reader, manifest, "calls-made", work)


def _sum(total: CallsMade | None, one: CallsMade | None) -> CallsMade | None:
    if total is None or one is None:
        return total or one
    failures = Counter(dict(total.failures)) + Counter(dict(one.failures))
    known = total.retries is not None and one.retries is not None
    return CallsMade(
        calls=total.calls + one.calls,
        cached=total.cached + one.cached,
        retries=(total.retries or 0) + (one.retries or 0) if known else None,
        failures=tuple(sorted(failures.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _account(root: Path, run: Run) -> Account | None:
    """Out of the ledger, which is only read; None where there is no entry or it cannot be read."""
    path = (root / "calls.sqlite").resolve()
    name = (run.account or run.run_id,)
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2.0)) as file:
            booked = file.execute(
                "SELECT count(*), coalesce(sum(calls),0), coalesce(sum(prompt_tokens + completion_tokens),0), "
                "coalesce(sum(usd),0.0), coalesce(sum(unpriced),0), coalesce(sum(lost_tokens),0), "
                "coalesce(sum(lost_usd),0.0) FROM accounts WHERE run = ?", name,
            ).fetchone()  # fmt: skip
            open_ = file.execute(
                "SELECT count(*), coalesce(sum(tokens),0), coalesce(sum(usd),0.0) FROM reservations WHERE run = ?", name
            ).fetchone()
            spans = file.execute("SELECT started, last FROM sessions WHERE run = ?", name).fetchall()
    except sqlite3.Error:
        return None  # a read-only copy without its write-ahead log, or no ledger: "not recorded"
    if not booked[0] and not open_[0]:
        return None
    ceilings = run.ceilings or {}
    lost_tokens, lost_usd = booked[5], booked[6]
    meters = (
        Meter(unit="tokens", used=booked[2] + lost_tokens, in_flight=open_[1], lost=lost_tokens,
              ceiling=ceilings.get("tokens")),
        Meter(unit="usd", used=booked[3] + lost_usd, in_flight=open_[2], lost=lost_usd, ceiling=ceilings.get("usd")),
        Meter(unit="seconds", used=union_seconds(spans), ceiling=ceilings.get("seconds")),
    )  # fmt: skip
    return Account(calls=booked[1], unpriced=booked[4], meters=meters)
