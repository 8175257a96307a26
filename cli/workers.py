"""The workers that `provender up --all` keeps running beside its server: a process for each work pool of prefect.yaml."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psutil

from schemas.errors import EngineDown, UsageError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def log_of(home: Path, pool: str) -> Path:
    """Where a pool's worker and its runs write."""
    return home / f"prefect-worker-{pool}.log"


def alive(home: Path) -> dict[str, int]:
    """Process ids of the workers that run, by pool."""
    found: dict[str, int] = {}
    for pool, noted in _noted(home).items():
        try:
            process = psutil.Process(int(noted["pid"]))
            same = abs(process.create_time() - noted["started"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if same:
            found[pool] = int(noted["pid"])
    return found


def start_workers(home: Path, api: str, pools: Sequence[str], wait_seconds: float = 120) -> dict[str, int]:
    """Start a worker for each pool that has none, and wait until the server knows them; process ids by pool."""
    running = alive(home)
    noted = {pool: entry for pool, entry in _noted(home).items() if pool in running}
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2"),
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    for pool in pools:
        if pool in running:
            continue
        words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", f"provender-{pool}"]
        with log_of(home, pool).open("ab") as log:
            processes[pool] = subprocess.Popen(
                words, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        pid = processes[pool].pid
        noted[pool] = {"pid": pid, "started": psutil.Process(pid).create_time()}
        _state(home).write_text(json.dumps(noted), "utf-8")
    deadline = time.monotonic() + wait_seconds
    for pool, process in processes.items():
        _wait_until_online(home, pool, process, deadline)
    return alive(home)


def stop_workers(home: Path) -> list[str]:
    """Stop them with the runs that they have under way; the pools that had one."""
    stopped: list[str] = []
    family: list[psutil.Process] = []
    for pool, pid in alive(home).items():
        try:
            worker = psutil.Process(pid)
            family += [*worker.children(recursive=True), worker]
        except psutil.NoSuchProcess:  # it went by itself meanwhile
            continue
        stopped.append(pool)
    for member in family:
        if member.is_running():
            member.terminate()
    for member in psutil.wait_procs(family, timeout=15)[1]:
        member.kill()
    _state(home).unlink(missing_ok=True)
    return stopped


def resume_schedules(names: Sequence[str]) -> list[str]:
    """Switch on every schedule of these deployments (``refresh/nightly``); one line each. They are registered off."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    told: list[str] = []
    with get_client(sync_client=True) as client:
        for name in names:
            try:
                deployment = client.read_deployment_by_name(name)
            except (ObjectNotFound, ValueError) as error:
                raise UsageError(f"--schedule {name}: there is no such deployment, as in refresh/nightly") from error
            if not deployment.schedules:
                raise UsageError(f"--schedule {name}: it has no schedule; give it one in prefect.yaml")
            for entry in deployment.schedules:
                client.update_deployment_schedule(deployment.id, entry.id, active=True)
                when = getattr(entry.schedule, "cron", None) or str(entry.schedule)
                told.append(f"{name}: scheduled, {when} {getattr(entry.schedule, 'timezone', None) or 'UTC'}")
            first = next_run(client, deployment.id)
            if first is None:
                raise EngineDown(f"{name}: the server took the schedule and made no run of it; see its log")
            told[-1] += f"; next run {first:%Y-%m-%d %H:%M %Z}"
    return told


def next_run(client: "SyncPrefectClient", deployment: UUID) -> datetime | None:
    """When the server will start the next run of a deployment by its schedules; None where it made none.

    The server is told to make them now; by itself it does so within a minute, and where it cannot only its log knows.
    """
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.exceptions import PrefectHTTPStatusError

    path = {"id": deployment}
    with contextlib.suppress(PrefectHTTPStatusError):  # then there is no run, which is what is told
        client.request("POST", "/deployments/{id}/schedule", path_params=path, json={"min_runs": 1})
    waiting = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=waiting),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    return runs[0].expected_start_time if runs else None


def _wait_until_online(home: Path, pool: str, process: "subprocess.Popen[bytes]", deadline: float) -> None:
    from prefect.client.orchestration import get_client

    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineDown(f"the worker of pool {pool} ended with {process.returncode}; see {log_of(home, pool)}")
        with get_client(sync_client=True) as client:
            known = client.read_workers_for_work_pool(pool)
        if any(worker.name == f"provender-{pool}" and str(worker.status.value) == "ONLINE" for worker in known):
            return
        time.sleep(0.5)
    raise EngineDown(f"the worker of pool {pool} did not answer; see {log_of(home, pool)}")


def _state(home: Path) -> Path:
    return home / "prefect-workers.json"


def _noted(home: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(_state(home).read_text("utf-8"))
    except (OSError, ValueError):  # none were started, or the note was torn: then nobody is known
        return {}
    return found if isinstance(found, dict) else {}
