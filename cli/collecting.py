"""`provender gc`: plan in one command, delete in another, never what a tag reaches."""

from pathlib import Path
from typing import Any

from schemas.errors import UsageError
from storage.store import Store


def collect(store: Path, execute: bool, keep_days: float, grace_hours: float) -> tuple[Any, str]:
    """(the plan or the report, the same in words)."""
    opened = Store.open(store, create=False)
    if not execute:
        plan = opened.gc_plan(keep_days, grace_hours)
        text = (
            f"plan {plan.plan_id}: {len(plan.versions)} versions, {len(plan.objects)} objects, {len(plan.receipts)} "
            f"receipts, {len(plan.temporary)} left-overs; {size(plan.freed_bytes)}. Nothing is deleted yet: "
            "`provender gc --execute` carries out the newest plan"
        )
        return plan, text
    plans = [name for name in opened.disk.fs.listdir(opened.root / "gc") if name.endswith(".json")]
    if not plans:
        raise UsageError("there is no plan to carry out; `provender gc` makes one")
    report = opened.gc_execute(plans[-1].removesuffix(".json"))
    text = (
        f"plan {report.plan_id}: deleted {len(report.versions)} versions and {len(report.objects)} objects, "
        f"{size(report.freed_bytes)}; spared {report.spared} that are needed by now or too young"
    )
    return report, text


def size(count: int) -> str:
    """Bytes in words."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
