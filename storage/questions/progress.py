"""Runs as they go: which steps are done, which one works, how far it is, and what it has spent so far."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from storage.questions.run_spending import RunSpending, quiet_seconds, resumed_from, run_spending
from storage.questions.views import View
from storage.questions.words import counted, number
from storage.runs import Run, events, find_run, runs
from storage.store import Store

State = Literal["working", "done", "reused", "failed", "cut"]


class StepState(View):
    """One step of a run. ``began`` and ``took`` are seconds, the first from the run's start: the bars of a Gantt chart."""

    stage: str
    what: str
    ref: str | None
    state: State
    began: float
    took: float | None
    counts: Mapping[str, int] = {}
    done: int | None = None  # of ``total``, while it works
    total: int | None = None
    note: str = ""


class RunLine(View):
    """A run as one line."""

    run: Run
    seconds: float | None
    steps: int
    working: str | None = None


class RunsPage(View):
    """All runs, newest first."""

    runs: tuple[RunLine, ...]
    working: int


class RunPage(View):
    """One run with its steps."""

    run: Run
    seconds: float | None
    steps: tuple[StepState, ...]
    notes: tuple[str, ...] = ()
    says: str
    spending: RunSpending
    resumed_from: str | None = None  # the unfinished run whose account it goes on with
    quiet_seconds: float | None = None  # for how long a run that should be working has said nothing, if that is long


def runs_page(store: Store) -> RunsPage:
    """Runs of a store with where they stand."""
    lines = []
    for run in runs(store.root):
        steps = states(run, list(events(store.root, run.run_id)), progress_of(store.root, run.run_id))
        working = next((f"{step.stage} {step.what}".strip() for step in steps if step.state == "working"), None)
        lines.append(RunLine(run=run, seconds=_seconds(run), steps=len(steps), working=working))
    return RunsPage(runs=tuple(lines), working=sum(line.run.status == "running" for line in lines))


def run_page(store: Store, run_id: str) -> RunPage:
    """One run by its id or the beginning of it; ``MissingDataset`` if there is no such run."""
    run = find_run(store.root, run_id)
    said = list(events(store.root, run.run_id))
    steps = states(run, said, progress_of(store.root, run.run_id))
    notes = tuple(str(entry.get("what") or entry.get("note") or "") for entry in said if entry.get("kind") == "note")
    made = [step.ref for step in steps if step.state == "done" and step.ref]
    return RunPage(
        run=run,
        seconds=_seconds(run),
        steps=steps,
        notes=notes,
        says=_says(run, steps),
        spending=run_spending(store, run, made),
        resumed_from=resumed_from(store.root, run),
        quiet_seconds=quiet_seconds(store.root, run),
    )


def progress_of(root: Path, run_id: str) -> dict[str, Any]:
    """How far the working step is, as its run last noted it; empty if it did not."""
    path = root / "runs" / run_id / "progress.json"
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def states(run: Run, said: Sequence[Mapping[str, Any]], progress: Mapping[str, Any]) -> tuple[StepState, ...]:
    """The steps of a run from its events, in the order in which they began."""
    found: dict[str, StepState] = {}
    for i, entry in enumerate(said):
        kind, stage, what = (str(entry.get(key) or "") for key in ("kind", "stage", "what"))
        if kind not in ("start", "done", "reused", "failed"):
            continue
        ref = str(entry["ref"]) if entry.get("ref") else None
        key = ref or f"{stage} {what} {i}"
        at = _since(run.started_at, str(entry.get("at") or ""))
        took = float(entry["seconds"]) if isinstance(entry.get("seconds"), int | float) else None
        counts = {str(k): int(v) for k, v in (entry.get("counts") or {}).items() if isinstance(v, int)}
        if kind == "start":
            found[key] = StepState(stage=stage, what=what, ref=ref, state="working", began=at, took=None)
            continue
        before = found.get(key)
        began = before.began if before else max(0.0, at - (took or 0.0))
        state: State = "done" if kind == "done" else "reused" if kind == "reused" else "failed"
        found[key] = StepState(
            stage=stage, what=what or (before.what if before else ""), ref=ref, state=state, began=began,
            took=took if took is not None else max(0.0, at - began), counts=counts, note=str(entry.get("note") or ""),
        )  # fmt: skip
    steps = list(found.values())
    if run.status != "running":
        steps = [step.model_copy(update={"state": "cut"}) if step.state == "working" else step for step in steps]
    elif progress:
        steps = [_going(step, progress) for step in steps]
    return tuple(steps)


def _going(step: StepState, progress: Mapping[str, Any]) -> StepState:
    if step.state != "working" or step.stage != progress.get("stage"):
        return step
    done, total = progress.get("done"), progress.get("total")
    return step.model_copy(
        update={
            "done": done if isinstance(done, int) else None,
            "total": total if isinstance(total, int) and total else None,
            "note": str(progress.get("note") or ""),
        }
    )


def _says(run: Run, steps: Sequence[StepState]) -> str:
    done = sum(step.state == "done" for step in steps)
    reused = sum(step.state == "reused" for step in steps)
    told = f"{run.status}: {counted(done, 'step')} done" + (f", {reused} reused" if reused else "")
    going = next((step for step in steps if step.state == "working"), None)
    if going:
        told += f"; working on {going.stage} {going.what}".rstrip()
        if going.done is not None:
            told += f", {number(going.done)}" + (f" of {number(going.total)}" if going.total else "")
    return told + (f"; {run.error}" if run.error else "")


def _seconds(run: Run) -> float | None:
    end = run.ended_at or (datetime.now(UTC).isoformat() if run.status == "running" else None)
    return _since(run.started_at, end) if end else None


def _since(start: str, end: str) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
