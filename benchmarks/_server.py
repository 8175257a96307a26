"""The fault-injecting server of the tests in a process of its own, for benchmarks."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from backends.engines import free_port

PROGRAM = Path(__file__).resolve().parents[1] / "tests" / "fakes" / "openai_server.py"


class Server:
    """The fault-injecting server in a process of its own."""

    def __init__(self, **faults: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        env = {"FAKE_FAULTS": json.dumps({"latency": [0.02, 0.05], **faults}), "PATH": "/usr/bin:/bin"}
        command = [sys.executable, str(PROGRAM), "--port", str(self.port), "--model", "fake"]
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)

    def __enter__(self) -> "Server":
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False)
                return self
            except httpx.HTTPError:
                time.sleep(0.05)
        raise RuntimeError("the fake server did not start")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def counters(self) -> dict[str, Any]:
        """What came in and what was billed."""
        return self._asked("_counters")

    def spans(self) -> list[tuple[float, float]]:
        """When work on each answer began and ended, in the order of beginning."""
        return [(began, ended) for began, ended in self._asked("_spans") if ended is not None]

    def _asked(self, page: str) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.port}/{page}", trust_env=False, timeout=60).json()
