"""`provender run` over HTTP, killed with SIGKILL in the midst of its calls and started again, as a user would."""

import json
import random
import signal
import sqlite3
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import polars as pl

from flows.curate import curate
from methods.asking.prompts import TASKS_HEADER
from schemas.recipe import load_recipe
from storage.store import Store
from tests.fakes.openai_server import FakeServer, Faults
from tests.forked import begun, provender

ROOT = Path(__file__).resolve().parent.parent.parent
CONCURRENCY = 8


def command(folder: Path, store: Path) -> list[str]:
    """The run as a user types it, without the orchestrator's start-up in the way."""
    return ["run", str(folder / "recipe.yaml"), "--store", str(store), "--without-prefect", "--no-report"]


def started(words: list[str], folder: Path) -> BaseProcess:
    """The run in a process of its own."""
    return begun(provender, *words, said=folder / "said", PROVENDER_HOME=str(folder / "home"))


def killed_at(billed: int, words: list[str], server: FakeServer, folder: Path) -> None:
    """Start the run and kill it when the server has answered so many calls in all."""
    process = started(words, folder)
    until = time.monotonic() + 90
    while server.counters()["billed"] < billed and time.monotonic() < until and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was killed amid its calls"


def ended(words: list[str], folder: Path) -> None:
    done = started(words, folder)
    done.join(120)
    assert done.exitcode == 0, (folder / "said").read_text("utf-8")


def booked(store: Path) -> tuple[int, int]:
    """Answers in the call cache, and calls in the ledger over all runs."""
    connection = sqlite3.connect(store / "calls.sqlite")
    stored, calls = connection.execute(
        "SELECT (SELECT count(*) FROM calls), (SELECT sum(calls) FROM accounts)"
    ).fetchone()
    connection.close()
    return stored, calls


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
        words = command(tmp_path, store)
        killed_at(50, words, server, tmp_path)
        before = server.counters()["billed"]
        ended(words, tmp_path)
        counters = server.counters()
    assert counters["billed"] > before > 0
    assert counters["billed"] - counters["unique"] <= CONCURRENCY, "more was paid twice than was in flight"
    assert booked(store) == (counters["unique"],) * 2, "every answer is stored once and booked once, over both runs"


class Teacher(FakeServer):
    """Writes task series, says of every third task that it is a classification task, and gives each its instances."""

    def good(self, body: dict[str, Any], chat: bool, prompt: str) -> dict[str, Any]:
        answer = super().good(body, chat, prompt)
        answer["choices"][0]["text"] = written(str(body["prompt"]), int(body.get("seed") or 0))
        return answer


def written(asked: str, seed: int) -> str:
    """A teacher's reply to each of Self-Instruct's prompts; what it says depends on prompt and seed alone."""
    chance = random.Random(f"{asked} {seed}")
    if asked.startswith(TASKS_HEADER):
        first = int(asked.rsplit("\n", 1)[1].rstrip("."))
        tasks = [f"Explain {' '.join(f'{chance.getrandbits(32):x}' for _ in range(5))}" for _ in range(4)]
        return " " + "\n".join([tasks[0], *(f"{first + k}. {task}" for k, task in enumerate(tasks[1:], start=1))])
    if asked.endswith("Is it classification?"):
        return chance.choice((" Yes", " No", " No"))
    said = f"{chance.getrandbits(64):x}"
    return (
        f"Class label: warm\nText: {said}"
        if "Class label:" in asked
        else f"Example 1\nInput: {said}\nOutput: the {said}"
    )


def test_self_instruct_killed_twice_amid_its_calls_ends_with_the_rows_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Four steps of calls, the real seeds, a server that counts: paid twice is at most what was in flight at each kill."""
    seeds = ROOT / "recipes" / "data" / "seed_tasks.jsonl"
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    found: dict[Path, pl.DataFrame] = {}
    with Teacher(Faults(latency=(0.01, 0.03))) as server:
        (tmp_path / "recipe.yaml").write_text(
            "name: grown\n"
            f"sources: {{seeds: {{path: {seeds}, role: seeds, license: Apache-2.0}}}}\n"
            "generate: {seeds: seeds, by: {method: self-instruct, examples: 40, prompts_per_round: 4}}\n"
            f"backends: {{llm: {{backend: openai, model: fake, base_url: '{server.url}', concurrency: {CONCURRENCY}}}}}\n"
        )
        curate.fn(load_recipe(tmp_path / "recipe.yaml"), calm)
        undisturbed = server.counters()
        assert undisturbed["billed"] == undisturbed["unique"] > 80, "so that both kills come in the middle"
        for count in (undisturbed["billed"] // 5, undisturbed["billed"] // 2):
            killed_at(undisturbed["billed"] + count, command(tmp_path, stormy), server, tmp_path)
        ended(command(tmp_path, stormy), tmp_path)
        asked = server.counters()
    assert asked["unique"] == undisturbed["unique"], "the same calls, and no other"
    twice = asked["billed"] - 2 * undisturbed["billed"]
    assert 0 <= twice <= 2 * CONCURRENCY, "more was paid twice than was in flight"
    assert booked(stormy) == (undisturbed["unique"],) * 2, (
        "every answer is stored once and booked once, over three runs"
    )
    for folder in (calm, stormy):
        store = Store.open(folder)
        assert store.verify() == []
        found[folder] = store.pool(store.resolve("grown"))
    assert found[calm].height == 40
    assert found[stormy].equals(found[calm]), "the same rows under the same ids, in the same order"
