"""Collect (garbage): remove what no tag reaches and nobody made lately, on a schedule."""

from pathlib import Path

from tasks.care import collect_garbage
from tasks.served_flow import flow


@flow(name="collect", flow_run_name="collect garbage of {store}", persist_result=False)
def collect(store: Path = Path("store"), keep_days: float = 14, grace_hours: float = 24) -> str:
    """Plan, keep the plan in the store, carry it out; what was removed, in words."""
    return collect_garbage(store, keep_days, grace_hours)
