"""`provender run` over HTTP, killed with SIGKILL in the midst of its calls and started again, as a user would."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.fakes.openai_server import FakeServer, Faults

ROOT = Path(__file__).resolve().parent.parent.parent
CONCURRENCY = 8


def test_a_run_killed_amid_its_calls_repays_at_most_what_was_in_flight(tmp_path: Path) -> None:
    """The server counts: one kill, at most eight answers paid twice, whatever the step makes of the replies."""
    rows = [{"instruction": f"Describe thing number {i}.", "output": f"It is thing number {i}."} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with FakeServer(Faults()) as server:
        (tmp_path / "recipe.yaml").write_text(
            "name: killed\n"
            f"sources: {{rows: {{path: {tmp_path / 'rows.jsonl'}, license: MIT}}}}\n"
            "filter: {method: clear}\n"
            f"backends: {{llm: {{backend: openai, model: fake, base_url: '{server.url}', concurrency: {CONCURRENCY}}}, "
            "embed: {backend: hashing}}\n"
        )
        store = tmp_path / "store"
        words = ["run", str(tmp_path / "recipe.yaml"), "--store", str(store), "--without-prefect", "--no-report"]
        command = [sys.executable, "-c", "from cli.main import main; main()", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROVENDER_HOME": str(tmp_path / "home")}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 90
        while server.counters()["billed"] < 50 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = server.counters()["billed"]
        again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        counters = server.counters()
    assert process.returncode == -signal.SIGKILL, "it was killed amid its calls"
    assert counters["billed"] > before > 0, again.stderr
    assert counters["billed"] - counters["unique"] <= CONCURRENCY, "more was paid twice than was in flight"
    connection = sqlite3.connect(store / "calls.sqlite")
    stored, calls = connection.execute(
        "SELECT (SELECT count(*) FROM calls), (SELECT sum(calls) FROM accounts)"
    ).fetchone()
    connection.close()
    assert stored == calls == counters["unique"], "every answer is stored once and booked once, over both runs"
