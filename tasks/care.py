"""Keeping a store in order, as a task."""

from pathlib import Path

from storage.store import Store
from tasks.stage_task import stage_task


@stage_task("collect garbage")
def collect_garbage(store: Path, keep_days: float, grace_hours: float) -> str:
    """Remove what no tag reaches, was made more than ``keep_days`` ago and is held by no run; says what went."""
    opened = Store.open(store, create=False)
    plan = opened.gc_plan(keep_days=keep_days, grace_hours=grace_hours)
    report = opened.gc_execute(plan)
    return (
        f"{len(report.versions)} versions, {len(report.objects)} objects and {len(report.temporary)} temporary files "
        f"removed, {report.freed_bytes / 2**20:.1f} MiB freed, {report.spared} spared"
    )
