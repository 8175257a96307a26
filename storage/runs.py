"""Who is running, who has finished, who died: one small folder per run, for display and liveness, never for correctness.

::

    runs/<run id>/run.json       status, replaced whole
    runs/<run id>/events.jsonl   one line per step event, appended
    runs/<run id>/progress.json  how far the working step is, replaced whole at most once a second
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict

from schemas.errors import MissingDataset, StoreUnwritable

Status = Literal["running", "completed", "failed", "stopped", "crashed"]


class Run(BaseModel):
    """One run of a recipe or of a stage."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    name: str
    what: str = "curate"
    status: Status = "running"
    started_at: str
    ended_at: str | None = None
    pid: int
    process_started: float  # tells a reused pid from ours
    host: str
    dataset: str | None = None
    error: str | None = None
    flow_run_id: str | None = None
    account: str = ""  # whose budget it draws on: its own, or that of the unfinished run it resumes
    ceilings: dict[str, float] | None = None  # tokens, usd, seconds: those the recipe sets; None of an older release


def new_run_id() -> str:
    """Sortable by time, unique: ``20261121-031500-a1b2c3``."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class RunLog:
    """The folder of one run, written by the process that runs it."""

    def __init__(
        self,
        root: Path,
        name: str,
        what: str,
        run_id: str,
        flow_run_id: str | None = None,
        account: str = "",
        ceilings: dict[str, float] | None = None,
    ) -> None:
        self.folder = root / "runs" / run_id
        self._noted = 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreUnwritable(
                f"{self.folder} cannot be made: {error.strerror}; a run needs a store that can be written, "
                "looking (`show`, `trace`, `serve`) does not"
            ) from error
        self.run = Run(
            run_id=run_id,
            name=name,
            what=what,
            started_at=now(),
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            host=os.uname().nodename,
            flow_run_id=flow_run_id,
            account=account or run_id,
            ceilings=ceilings,
        )
        self._save()

    def event(self, entry: dict[str, Any]) -> None:
        """Append one event; a torn last line is skipped by readers."""
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": now(), **entry}) + "\n")

    def progress(self, entry: dict[str, Any]) -> None:
        """Note how far the working step is: one small file, replaced at most once a second."""
        now_ = time.monotonic()
        if now_ - self._noted >= 1.0:
            self._noted = now_
            fresh = self.folder / f"progress.{os.getpid()}.tmp"
            fresh.write_text(json.dumps({"at": now(), **entry}), "utf-8")
            fresh.replace(self.folder / "progress.json")

    def end(self, status: Status, *, dataset: str | None = None, error: str | None = None) -> None:
        """Write how it ended."""
        self.run = self.run.model_copy(
            update={"status": status, "ended_at": now(), "dataset": dataset, "error": error and error[:2000]}
        )
        self._save()

    def _save(self) -> None:
        _replace(self.folder / "run.json", self.run)


def runs(root: Path) -> list[Run]:
    """All runs, newest first. One whose process is gone is marked crashed, here and on disk."""
    found = []
    for folder in (root / "runs").glob("*/run.json"):
        try:
            run = Run.model_validate_json(folder.read_text("utf-8"))
        except ValueError:
            continue  # being written by a process that died: it never said more than its name
        if run.status == "running" and is_dead(run):
            run = run.model_copy(
                update={"status": "crashed", "error": "its process is gone (killed, or out of memory)"}
            )
            if os.access(folder, os.W_OK):
                _replace(folder, run)
        found.append(run)
    return sorted(found, key=lambda run: run.started_at, reverse=True)  # ids tell seconds apart, not moments within one


def account_of(root: Path, name: str, run_id: str) -> str:
    """Whose budget a new run draws on: that of the newest run of the same name while it is unfinished, else its own.

    So a ceiling is cumulative over stops, crashes and resumes, and a refresh after a finished run starts afresh.
    """
    last = next((run for run in runs(root) if run.name == name and run.run_id != run_id), None)
    unfinished = last is not None and last.status not in ("completed", "running")
    return last.account or last.run_id if last is not None and unfinished else run_id


def find_run(root: Path, run_id: str) -> Run:
    """The run of that id or unique prefix."""
    found = [run for run in runs(root) if run.run_id.startswith(run_id)]
    if len(found) != 1:
        raise MissingDataset(f"{len(found)} runs begin with {run_id!r}; `provender runs` lists them")
    return found[0]


def events(root: Path, run_id: str) -> Iterator[dict[str, Any]]:
    """What the run said, oldest first."""
    path = root / "runs" / run_id / "events.jsonl"
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return


def is_dead(run: Run) -> bool:
    """Whether the run's process no longer exists. A run of another machine is left alone: we cannot know."""
    if run.host != os.uname().nodename:
        return False
    try:
        return abs(psutil.Process(run.pid).create_time() - run.process_started) > 2
    except psutil.Error:
        return True


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _replace(path: Path, run: Run) -> None:
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(run.model_dump_json(indent=1), "utf-8")
    fresh.replace(path)
