"""Register what prefect.yaml deploys with the Prefect server, and make the work pools it names."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import EngineDown, UsageError
from schemas.safe_yaml import load_yaml


def pools_of(file: Path) -> list[str]:
    """The work pools that the deployments name, in order."""
    if not file.is_file():
        raise UsageError(f"there is no {file} here; go to the folder that has one, or name it with --file")
    document, _ = load_yaml(file)
    if not isinstance(document, dict) or not isinstance(document.get("deployments"), list):
        raise UsageError(f"{file} has no list `deployments:`; see prefect.yaml in the repository")
    names = [(d.get("work_pool") or {}).get("name") for d in document["deployments"]]
    return list(dict.fromkeys(name for name in names if name))


def deploy_all(file: Path) -> Iterator[str]:
    """One line per pool and for the deployments; raises ``EngineDown`` without a server or when Prefect refuses."""
    if "PREFECT_API_URL" not in os.environ:
        raise EngineDown("no Prefect server is known; start one with `provender up`, or set PREFECT_API_URL")
    for pool in pools_of(file):
        made = _prefect("work-pool", "create", pool, "--type", "process", "--overwrite")
        if made.returncode:
            raise EngineDown(f"work pool {pool} at {os.environ['PREFECT_API_URL']}: {_last(made)}")
        yield f"work pool {pool}: ready"
    done = _prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(file))
    if done.returncode:
        raise EngineDown(f"{file}: {_last(done)}")
    yield f"{file}: deployments registered at {os.environ['PREFECT_API_URL']}"


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """What Prefect said last: its tracebacks end with the reason."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"ended with {done.returncode}"


def _prefect(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "prefect", *words], capture_output=True, text=True, check=False)
