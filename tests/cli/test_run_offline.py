"""The command line as a user has it, with a temporary Prefect server: nothing calls out, and a rerun has nothing to do.

What a process of its own is not needed for runs in this one (tests/cli/inside.py).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cli.inside import provender

ROOT = Path(__file__).resolve().parent.parent.parent
PROVENDER = [sys.executable, "-c", "from cli.main import main; main()"]


def process(*words: str, home: Path, out: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a fresh interpreter; with ``out`` a guard notes there whatever it asks of another host."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "PYTEST"))}
    environment |= {"PROVENDER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    if out:
        environment |= {"PYTHONPATH": f"{ROOT / 'tests' / 'guards'}:{ROOT}", "PROVENDER_CALLS_OUT": str(out)}
    return subprocess.run([*PROVENDER, *words], capture_output=True, text=True, env=environment, cwd=home, check=False)


def test_the_guard_sees_a_call_to_the_outside(tmp_path: Path) -> None:
    """Otherwise the next test could not fail."""
    out = tmp_path / "calls"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "guards"), "PROVENDER_CALLS_OUT": str(out)}
    code = "import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "forbids" in done.stdout
    assert "example.org" in out.read_text("utf-8")


@pytest.mark.flow
def test_init_and_run_call_nobody_and_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    made = provender("init", "project", home=tmp_path)
    assert made.returncode == 0, made.stderr
    out = tmp_path / "calls"
    recipe, store = str(tmp_path / "project" / "recipe.yaml"), str(tmp_path / "store")
    first = process("run", recipe, "--store", store, "--json", home=tmp_path, out=out)
    assert first.returncode == 0, first.stderr
    assert not out.exists(), out.read_text("utf-8")
    assert (tmp_path / "prefect-run.log").exists(), "the run's own server wrote there"
    about = [one.info for one in psutil.process_iter(["cmdline", "environ"])]
    mine = [one["cmdline"] for one in about if (one["environ"] or {}).get("PROVENDER_HOME") == str(tmp_path)]
    assert mine == [], "and ended with the run"
    answer = json.loads(first.stdout)
    assert (answer["examples"], answer["gate"], answer["tag"]) == (500, "passed", "project@v1")
    assert answer["gate_open_points"] == [], "what keeps the gate shut, if it is"
    assert Path(answer["report"]).stat().st_size > 10_000
    again = provender("run", recipe, "--store", store, home=tmp_path)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    for fate, example in answer["examples_to_trace"].items():
        told = provender("trace", example, "--store", store, home=tmp_path)
        assert told.stdout.startswith({"kept": "Kept", "dropped": "Dropped"}[fate])


def test_the_version_is_told(tmp_path: Path) -> None:
    assert process("--version", home=tmp_path).stdout.startswith("provender 0.")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["show", "nothing", "--store", "no-store"], 4, "is no store"),
        (["ingest", "nowhere.jsonl", "--store", "s"], 3, "nowhere.jsonl"),
        (["filter", "x", "--method", "cleer", "--store", "s"], 2, "'heuristics'"),
        (["verify", "--store", "no-store"], 4, "is no store"),
        (["methods", "nope"], 2, "no method 'nope'"),
        (["init", "CON"], 2, "reserved"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_with_its_own_exit_code(tmp_path: Path, words: list[str], code: int, told: str) -> None:
    done = (process if words[0] == "run" else provender)(*words, home=tmp_path)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_ad_hoc_stages_end_in_a_published_set_that_may_be_trained_on(tmp_path: Path) -> None:
    """The README's verbs one after the other on a file; training is refused before the gate has something to look at."""
    plainly = ("--store", str(tmp_path / "store"), "--without-prefect")

    def ok(*words: str) -> str:
        done = provender(*words, *plainly, home=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    ok("dedup", str(ROOT / "recipes" / "data" / "target.jsonl"), "--tag", "deduped")
    ok("decontaminate", "deduped", "--against", "gsm8k", "--tag", "clean")
    refused = provender("finetune", "clean", "--backend", "pretend", *plainly, home=tmp_path)
    assert (refused.returncode, "provender publish" in refused.stderr) == (7, True)
    ok("publish", "clean", "--name", "final", "--against", "gsm8k")
    assert ok("finetune", "final", "--backend", "pretend").startswith("finetune@")
    ok("publish", "deduped", "--name", "unchecked", "--against", "gsm8k")
    assert provender("finetune", "unchecked", "--backend", "pretend", *plainly, home=tmp_path).returncode == 7
