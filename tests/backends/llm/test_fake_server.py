"""The fault-injecting server itself: what it does is decided by the request alone, and its counters tell the truth."""

import concurrent.futures
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.engines import free_port
from tests.fakes.openai_faults import AFTER, BEFORE
from tests.fakes.openai_server import FakeServer, Faults

ROOT = Path(__file__).resolve().parents[3]


def post(server: FakeServer, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, trust_env=False, timeout=10)


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **more}


def test_what_goes_wrong_depends_on_the_prompt_and_not_on_the_order() -> None:
    def outcomes(texts: Sequence[str]) -> dict[str, int]:
        with FakeServer(Faults(rates={"500": 0.3, "429": 0.2}, latency=(0.0, 0.001))) as server:
            return {text: post(server, "/chat/completions", chat(text)).status_code for text in texts}

    texts = [f"prompt {i}" for i in range(30)]
    forth, back = outcomes(texts), outcomes(texts[::-1])
    assert forth == back
    assert set(forth.values()) == {200, 429, 500}


def test_rates_are_met_over_many_prompts() -> None:
    server = FakeServer(Faults(rates={"500": 0.1, "reset": 0.05}))
    drawn = [server.fault(f"prompt {i}", 0) for i in range(20_000)]
    assert drawn.count("500") / 20_000 == pytest.approx(0.1, abs=0.01)
    assert drawn.count("reset") / 20_000 == pytest.approx(0.05, abs=0.007)


def test_replies_come_in_pieces_where_that_is_asked_for() -> None:
    with FakeServer(Faults(latency=(0.0, 0.001))) as server:
        whole = post(server, "/chat/completions", chat("hello")).json()["choices"][0]["message"]["content"]
        lines = post(server, "/chat/completions", chat("hello", stream=True)).text.split("\n\n")
        plain = post(server, "/completions", {"prompt": "once", "stream": True}).text
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == whole
    assert len(events) >= 3
    assert events[-1]["usage"]["completion_tokens"] == 8
    assert lines[-2] == "data: [DONE]"
    assert plain.endswith("data: [DONE]\n\n")


def test_embeddings_are_unit_vectors_of_the_texts() -> None:
    with FakeServer() as server:
        got = post(server, "/embeddings", {"model": "fake", "input": ["a", "b", "a"]}).json()["data"]
    vectors = [one["embedding"] for one in got]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1.0)


def test_slots_work_on_so_many_at_once_and_their_busy_time_is_counted() -> None:
    """Six answers of 0.1 s through two slots: 0.6 slot-seconds at least, and never more than two a second."""
    with FakeServer(Faults(latency=(0.1, 0.1), slots=2)) as server:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda i: post(server, "/chat/completions", chat(f"{i}")), range(6)))
        counters = server.counters()
    assert counters["busy_seconds"] >= 0.59
    assert counters["busy_seconds"] <= 2 * counters["span_seconds"] + 1e-6


def test_it_is_a_program_with_its_faults_in_the_environment() -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.fakes.openai_server", "--port", str(port), "--model", "named"]
    environment = os.environ | {"FAKE_FAULTS": json.dumps({"poison": "bad"})}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 20
        while time.monotonic() < until:
            try:
                assert httpx.get(f"{url}/v1/models", trust_env=False).json()["data"] == [{"id": "named"}]
                break
            except httpx.TransportError:
                time.sleep(0.05)
        body = {**chat("bad"), "model": "named"}
        assert httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False).status_code == 400
        assert httpx.get(f"{url}/_counters", trust_env=False).json()["requests"] == 1
    finally:
        process.kill()
        process.wait()


def test_it_has_the_faults_that_the_specification_names() -> None:
    wanted = {
        "429", "429-seconds", "429-date", "429-absurd", "500", "502", "503", "529", "hang", "hang-mid-body", "drip",
        "reset", "truncated", "wrong-length", "gzip-bomb", "undecodable", "html", "no-choices", "empty", "length",
        "filtered", "two-choices", "wrong-schema", "nan", "huge", "surrogate", "no-usage", "negative-usage",
        "other-model", "clock-skew", "leak",
    }  # fmt: skip
    assert wanted <= set(BEFORE) | set(AFTER)
