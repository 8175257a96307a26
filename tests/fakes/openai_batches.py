"""The fake server's batch endpoint: files, batches that take a while, results of which some lines may fail."""

import asyncio
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

from tests.fakes.openai_faults import Answer

if TYPE_CHECKING:
    from tests.fakes.openai_server import FakeServer


class FakeBatches:
    """What was uploaded and what was asked for. Every answered line counts as billed at the server."""

    def __init__(self, server: "FakeServer") -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, path: str) -> tuple[int, Any]:
        """A batch, the list of batches, or the content of a file."""
        path, _, query = path.partition("?")
        words = path.strip("/").split("/")[1:]
        match words:
            case ["batches"]:
                listed = sorted(self.batches.values(), key=lambda one: -one["created_at"])
                if "after=" in query:
                    names = [one["id"] for one in listed]
                    listed = listed[names.index(query.split("after=")[1]) + 1 :]
                return 200, {"object": "list", "data": listed[:2], "has_more": len(listed) > 2}
            case ["batches", name] if name in self.batches:
                return 200, self.batches[name]
            case ["files", name, "content"] if name in self.files:
                return 200, self.files[name]
        return 404, {"error": {"message": f"no such thing: {path}"}}

    def post(self, path: str, headers: dict[str, str], raw: bytes) -> tuple[int, Any]:
        """A file, or a batch over one."""
        if path == "/v1/files":
            mark = headers["content-type"].split("boundary=")[1].encode()
            part = next(one for one in raw.split(b"--" + mark) if b'name="file"' in one)
            name = f"file-{next(self._numbers)}"
            self.files[name] = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            return 200, {"id": name, "object": "file"}
        wanted = json.loads(raw)
        lines = [json.loads(line) for line in self.files[wanted["input_file_id"]].splitlines()]
        name = f"batch_{next(self._numbers)}"
        counts = {"total": len(lines), "completed": 0, "failed": 0}
        self.batches[name] = {
            "id": name, "status": "in_progress", "request_counts": counts, "created_at": time.time(), **wanted,
        }  # fmt: skip
        task = asyncio.get_running_loop().create_task(self._work(name, lines))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return 200, self.batches[name]

    async def _work(self, name: str, lines: list[dict[str, Any]]) -> None:
        """Answer the lines in another order than they were asked, then publish the results."""
        server, batch = self._server, self.batches[name]
        results: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for line in reversed(lines):
            await asyncio.sleep(server.faults.batch_seconds / max(1, len(lines)))
            if len(results) + len(failed) == server.faults.batch_expires_after:
                batch["status"] = "expired"
                break
            status, body = self._answer(line)
            (results if status == 200 else failed).append(
                {"custom_id": line["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
            )
            batch["request_counts"]["completed" if status == 200 else "failed"] += 1
        if server.faults.batch_fails:
            batch.update(status="failed", errors={"data": [{"message": "the file is not to our liking"}]})
            return
        for kind, part in (("output_file_id", results), ("error_file_id", failed)):
            if part:
                batch[kind] = f"file-{next(self._numbers)}"
                self.files[batch[kind]] = b"".join(json.dumps(one).encode() + b"\n" for one in part)
        batch["ended_at"] = time.time()
        if batch["status"] == "in_progress":
            batch["status"] = "completed"

    def _answer(self, line: dict[str, Any]) -> tuple[int, Any]:
        server, body = self._server, line["body"]
        chat = line["url"].endswith("/chat/completions")
        prompt, name = server.named(body, chat)
        attempt = server.count(name, body)
        fault = server.fault(name, attempt)
        if server.faults.poison is not None and server.faults.poison in prompt:
            return 400, {"error": {"message": "this model's maximum context length is exceeded"}}
        if fault is not None and fault.isdigit():
            server.injected[fault] += 1
            return int(fault), {"error": {"message": f"injected {fault}"}}
        answer = Answer(body=server.good(body, chat, prompt))
        server.bill(name)
        if fault == "wrong-schema":
            server.injected[fault] += 1
            answer.body["choices"][0]["message"]["content"] = '{"answer": 5}'
        return 200, answer.body
