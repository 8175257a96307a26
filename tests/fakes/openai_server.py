"""A fault-injecting OpenAI-compatible server: what is wrong with an answer is decided by hash(seed, prompt, attempt).

In a test: ``with FakeServer(Faults(rates={"429": 0.1})) as server: … server.url, server.counters()``. As a program it
takes the arguments of vLLM's server (``--port``, ``--model`` …) and its faults from ``FAKE_FAULTS`` (JSON).
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fakes.openai_batches import FakeBatches
from tests.fakes.openai_faults import AFTER, BEFORE, Answer, answer_text, chance, fake_ids, logprob_of, packed
from tests.fakes.openai_more import embeddings, streamed

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass
class Faults:
    """What goes wrong. ``rates`` maps fault names to probabilities; the rest is exact."""

    rates: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    latency: tuple[float, float] = (0.02, 0.05)
    spread: tuple[float, float] | None = None  # latency is lognormal instead: median seconds, sigma of the logarithm
    slots: int | None = None  # so many answers are worked on at once, others wait their turn
    poison: str | None = None  # a prompt that holds this text is refused with 400, always
    first: int = 0  # this many attempts of every prompt meet ``first_fault``
    early: int = 0  # the first requests of all meet ``first_fault``
    first_fault: str = "500"
    capacity: int | None = None  # more requests in flight than this are answered 429
    key: str | None = None  # every other key is refused with 401
    models: tuple[str, ...] = ()  # every other model is refused with 404
    crash_after: int | None = None  # the process exits at this request
    stall_after: int | None = None  # from this request on nothing is answered
    reply_tokens: tuple[float, float] | None = None  # completion tokens are lognormal: median, sigma of the logarithm
    cached_tokens: int = 0  # so many prompt tokens count as found in the server's cache
    chats_only: bool = False  # no text is continued
    scores: bool = True  # else there is no /tokenize, and echo is not heeded
    json_always: bool = False  # replies are JSON even where no response_format asks for it
    batch_seconds: float = 0.02  # how long a batch takes
    batch_expires_after: int | None = None  # a batch expires after so many answers
    batch_fails: bool = False
    once: str | None = None  # crash and stall only while this file does not exist; it is made


class Work:
    """Answers being worked on: at most ``slots`` at once; how many seconds the slots were busy in all.

    ``spans`` holds when each began and ended, in the order of beginning; None while it is worked on.
    """

    def __init__(self, slots: int | None) -> None:
        self._places = asyncio.Semaphore(slots) if slots else None
        self._now = 0
        self._first = self._changed = 0.0
        self.busy_seconds = 0.0
        self.spans: list[tuple[float, float | None]] = []

    @property
    def span_seconds(self) -> float:
        """From the first answer's beginning to the last change."""
        return self._changed - self._first

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it."""
        if self._places is not None:
            await self._places.acquire()
        self._change(1)
        number, began = len(self.spans), self._changed
        self.spans.append((began, None))
        try:
            yield
        finally:
            self._change(-1)
            self.spans[number] = (began, self._changed)
            if self._places is not None:
                self._places.release()

    def _change(self, by: int) -> None:
        now = time.monotonic()
        self._first = self._first or now
        self.busy_seconds += self._now * (now - self._changed)
        self._now += by
        self._changed = now


def lognormal(median: float, sigma: float, uniform: float) -> float:
    """The value at a quantile of a lognormal distribution."""
    return median * math.exp(sigma * NormalDist().inv_cdf(min(max(uniform, 1e-9), 1 - 1e-9)))


class FakeServer:
    """The server in a thread of this process, on a free port of the loopback interface."""

    def __init__(self, faults: Faults | None = None, port: int = 0) -> None:
        self.faults = faults or Faults()
        self.requests: list[dict[str, Any]] = []  # every body that came, in order
        self.arrivals: list[float] = []  # when each came, monotonic seconds
        self.attempts: Counter[str] = Counter()
        self.billed: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.in_flight = self.max_in_flight = self.received_bytes = self.completion_tokens = 0
        self._work = Work(self.faults.slots)
        self.port = port
        self.batches = FakeBatches(self)
        self._ready = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """What a client calls base_url."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "FakeServer":
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fake server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def counters(self) -> dict[str, Any]:
        """The oracle: what really came in and what was really paid for."""
        with self._lock:
            return {
                "requests": sum(self.attempts.values()),
                "unique": len(self.attempts),
                "billed": sum(self.billed.values()),
                "billed_twice": sum(count - 1 for count in self.billed.values() if count > 1),
                "max_in_flight": self.max_in_flight,
                "received_bytes": self.received_bytes,
                "injected": dict(self.injected),
                "busy_seconds": self._work.busy_seconds,
                "span_seconds": self._work.span_seconds,
            }

    async def serve(self) -> None:
        """Run until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._client, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (got := await _read_request(reader)) is not None and await self._one(*got, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, method: str, path: str, headers: dict[str, str], raw: bytes, writer: Any) -> bool:
        """Answer one request; whether the connection lives on."""
        self.received_bytes += len(raw)
        if path.startswith(("/v1/files", "/v1/batches")):
            got = self.batches.get(path) if method == "GET" else self.batches.post(path, headers, raw)
            return await _send(writer, *got)
        if method == "GET":
            return await _send(writer, *self._get(path))
        try:
            body = json.loads(raw)
        except ValueError:
            return await _send(writer, 400, {"error": {"message": "not JSON"}})
        if path == "/tokenize" and not self.faults.scores:
            return await _send(writer, 404, {"detail": "Not Found"})
        if path == "/tokenize":
            return await _send(writer, 200, {"tokens": fake_ids(body), "max_model_len": 64})
        if path == "/v1/embeddings":
            return await _send(writer, 200, embeddings(body))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await self._answer(path, headers, body, writer)
        finally:
            self.in_flight -= 1

    def _get(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            return 200, {}
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": model} for model in self.faults.models or ("fake",)]}
        if path == "/_counters":
            return 200, self.counters()
        if path == "/_spans":
            return 200, self._work.spans
        if path == "/metrics":
            return 200, (
                f'vllm:num_requests_running{{model_name="fake"}} {float(self.in_flight)}\n'
                f'vllm:num_requests_waiting{{model_name="fake"}} 0.0\n'
                f'vllm:generation_tokens_total{{model_name="fake"}} {float(self.completion_tokens)}\n'
                f'vllm:prompt_tokens_total{{model_name="fake"}} {float(self.completion_tokens)}\n'
            )
        return 404, {"error": {"message": "no such page"}}

    async def _answer(self, path: str, headers: dict[str, str], body: dict[str, Any], writer: Any) -> bool:
        faults = self.faults
        chat = path.endswith("/chat/completions")
        prompt, name = self.named(body, chat)
        attempt = self.count(name, body)
        count = len(self.arrivals)
        await self._maybe_die(count)
        if faults.key is not None and headers.get("authorization") != f"Bearer {faults.key}":
            return await _send(writer, 401, {"error": {"message": f"bad key {headers.get('authorization')}"}})
        if faults.models and body.get("model") not in faults.models:
            return await _send(writer, 404, {"error": {"code": "model_not_found", "message": "no such model"}})
        if faults.chats_only and not chat:
            return await _send(
                writer, 404, {"error": {"message": "This is not supported in the v1/completions endpoint"}}
            )
        if faults.poison is not None and faults.poison in prompt:
            return await _send(writer, 400, {"error": {"message": "this model's maximum context length is exceeded"}})
        if faults.capacity is not None and self.in_flight > faults.capacity:
            return await _send(writer, 429, {"error": {"message": "slow down"}})
        fault = faults.first_fault if count <= faults.early else self.fault(name, attempt)
        if fault in BEFORE:
            self.injected[fault] += 1
            await asyncio.sleep(faults.latency[0] / 2)
            return await BEFORE[fault](writer, headers)
        async with self._work.one():
            await asyncio.sleep(self._latency(name, attempt))
        answer = Answer(body=self.good(body, chat, prompt))
        self.bill(name)
        if fault is None and body.get("stream"):
            return await streamed(writer, answer.body, chat)
        if fault is None:
            return await _send(writer, 200, answer.body)
        self.injected[fault] += 1
        return await AFTER[fault](writer, answer, chat)

    @staticmethod
    def named(body: dict[str, Any], chat: bool) -> tuple[str, str]:
        """The prompt as JSON text, and the name under which a request is counted."""
        prompt = json.dumps(body["messages"] if chat else body["prompt"])
        return prompt, f"{prompt}|{body.get('seed', '')}"

    def _tokens(self, prompt: str) -> int:
        if self.faults.reply_tokens is None:
            return 8
        return max(1, round(lognormal(*self.faults.reply_tokens, chance(self.faults.seed, prompt, 0, "tokens"))))

    def _latency(self, name: str, attempt: int) -> float:
        drawn = chance(self.faults.seed, name, attempt, "latency")
        low, high = self.faults.latency
        return low + (high - low) * drawn if self.faults.spread is None else lognormal(*self.faults.spread, drawn)

    def count(self, name: str, body: dict[str, Any]) -> int:
        """Note that a request came; how often it had come before."""
        with self._lock:
            self.attempts[name] += 1
            self.requests.append(body)
            self.arrivals.append(time.monotonic())
            return self.attempts[name] - 1

    def bill(self, name: str) -> None:
        """Note that an answer was worked out, heard or not."""
        with self._lock:
            self.billed[name] += 1
            self.completion_tokens += 8

    async def _maybe_die(self, count: int) -> None:
        faults = self.faults
        if faults.once is not None and os.path.exists(faults.once):
            return
        if faults.crash_after is not None and count >= faults.crash_after:
            if faults.once is not None:
                Path(faults.once).touch()
            os._exit(3)
        if faults.stall_after is not None and count >= faults.stall_after:
            if faults.once is not None:
                Path(faults.once).touch()
                faults.once = None  # this process stays stalled, the next one is sound
            await asyncio.sleep(3600)

    def fault(self, prompt: str, attempt: int) -> str | None:
        """What is wrong with this attempt, if anything."""
        if attempt < self.faults.first:
            return self.faults.first_fault
        drawn, reached = chance(self.faults.seed, prompt, attempt, "fault"), 0.0
        for name, rate in self.faults.rates.items():
            reached += rate
            if drawn < reached:
                return name
        return None

    def good(self, body: dict[str, Any], chat: bool, prompt: str) -> dict[str, Any]:
        """The body of a good answer."""
        text = answer_text(prompt)
        if body.get("response_format") or self.faults.json_always:
            text = json.dumps({"answer": text})
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        if "prompt_logprobs" in body:
            ids = body["prompt"]
            choice["prompt_logprobs"] = [None, *({str(i): {"logprob": logprob_of(i)}} for i in ids[1:])]
        if body.get("echo") and self.faults.scores:
            words = body["prompt"].split(" ")
            offsets = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
            values = [None, *(-0.5 * len(word) for word in words[1:])]
            choice["logprobs"] = {"tokens": words, "token_logprobs": values, "text_offset": offsets}
        usage: dict[str, Any] = {"prompt_tokens": len(prompt) // 4, "completion_tokens": self._tokens(prompt)}
        if self.faults.cached_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": self.faults.cached_tokens}
        return {"id": "x", "model": body.get("model", "fake"), "choices": [choice], "usage": usage}


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
    return method, path, headers, await reader.readexactly(int(headers.get("content-length", 0)))


async def _send(writer: asyncio.StreamWriter, status: int, body: Any, extra: str = "") -> bool:
    return await packed(writer, status, _REASONS.get(status, "Error"), body, extra)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--served-model-name")
    known, _ = parser.parse_known_args()
    spec = json.loads(os.environ.get("FAKE_FAULTS", "{}"))
    faults = Faults(**spec)
    faults.models = tuple(faults.models) or (known.served_model_name or known.model,)
    faults.key = os.environ.get("VLLM_API_KEY")
    if child := os.environ.get("FAKE_CHILD"):  # a worker process, to see whether it is stopped too
        Path(child).write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    print("fake server with", asdict(faults) | {"key": "set" if faults.key else None}, flush=True)
    asyncio.run(FakeServer(faults, known.port).serve())


if __name__ == "__main__":
    main()
