"""The batch endpoint: requests as a file, answers within a day at a lower price; a killed run finds its batches again.

Before a batch is made, a note (``pledges`` of the meter) names its uploaded file and its requests; after it, the batch.
A run that starts with such notes collects those batches before it makes new ones. A batch of which only the file is
known is looked for at the server by that file, so that the moment between the two cannot pay twice.
"""

import asyncio
import hashlib
import json
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.llm._accept import strict_json
from backends.llm._openai_client import Client
from backends.llm._openai_row import Row
from backends.llm._openai_run import Run
from backends.llm._openai_wire import Outcome, failed
from backends.llm._pacing import backoff_seconds
from backends.protocols import FailureClass, Meter, Pledges, Reply, Request
from schemas.errors import BackendError, EngineDown

_PREFIX = "openai-batch/"
#: Servers take files of 100 or 200 MB.
_FILE_BYTES = 90_000_000
_RESULT_BYTES = 1_000_000_000
_TRANSFER_SECONDS = 1800.0
#: Batches of one row at most: what failed in passing, or had the wrong shape, goes into the next one.
_ROUNDS = 3
_PAGES = 20
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass
class _Job:
    """One batch on its way: custom ids of its requests; ``batch`` is empty until the server has made it."""

    file: str
    ids: list[str]
    batch: str = ""
    name: str = ""

    def text(self, client: Client, path: str) -> str:
        """As a note."""
        place = {"base_url": client.settings.base_url, "model": client.settings.model, "path": path}
        return json.dumps({**place, "file": self.file, "batch": self.batch, "ids": self.ids})


class Batches:
    """One list of requests through the batch endpoint of a client's server."""

    def __init__(self, client: Client, *, most: int, poll_seconds: float) -> None:
        self._client, self._most, self._poll_seconds = client, most, poll_seconds
        self._rows: dict[int, Row] = {}
        self._open: dict[str, int] = {}  # custom id → position, of what waits for an answer
        self._ours: set[str] = set()  # custom ids of the present round
        self._pledges: Pledges | None = None
        self._done = 0
        self._chance = random.Random()  # jitter decides when, never what

    async def generate(self, requests: Sequence[Request], meter: Meter | None) -> list[Reply]:
        """One reply per request. Raises ``EngineDown`` when the server has no batch endpoint or refuses a batch."""
        run = Run(requests, meter)
        self._pledges = getattr(meter, "pledges", None)
        self._rows = {i: self._client.row(request) for i, request in enumerate(requests)}
        left = await self._sendable(run)
        for path in ("/chat/completions", "/completions"):
            part = [i for i in left if (requests[i].prompt is None) == (path == "/chat/completions")]
            for left_rounds in reversed(range(_ROUNDS)):
                if part and not run.over:
                    mended = {i: self._rows[i].mendings for i in part}
                    part = await self._round(run, part, path)
                    for i in part if left_rounds and not run.over else ():
                        if self._rows[i].mendings > mended[i]:
                            run.met("repair")
            for i in part:
                await self._finish(run, i)
        return [reply for reply in run.replies if reply is not None]

    async def _sendable(self, run: Run) -> list[int]:
        """Positions that may be sent; the rest is refused at once."""
        left: list[int] = []
        for i, row in self._rows.items():
            problem = self._client.refused_unsent(row.current)
            if problem is None:
                left.append(i)
            else:
                row.take(problem, 1)
                await self._finish(run, i)
        return left

    async def _round(self, run: Run, positions: list[int], path: str) -> list[int]:
        """Ask these once: those in batches that an earlier run made, then the others; what is to be asked again."""
        ids = self._named(positions)
        self._open, self._ours = dict(ids), set(ids)
        jobs = self._remembered(path)
        found = {one for job in jobs for one in job.ids}
        admitted: list[str] = []
        for one, i in ids.items():
            if one in found:
                continue
            if run.refused or not run.admit(i):
                run.refused = True
                await self._refuse(run, self._open.pop(one))
            else:
                admitted.append(one)
        for part in self._parts(admitted, ids):
            jobs.append(await self._upload(part, ids, path, run))
        for job in jobs:
            if not job.batch:
                job.batch = await self._made(job, path, run)
                self._note(job, path, ())
        again: list[int] = []
        for answered in await asyncio.gather(*(self._collect(run, job, path) for job in jobs)):
            again += answered
        for i in self._open.values():  # no batch had an answer for it
            if run.over:
                await self._refuse(run, i)
            else:
                self._count(run, "timeout")
                self._rows[i].take(failed("timeout", "the batch ended without an answer"), 1)
                again.append(i)
        return sorted(again)

    async def _collect(self, run: Run, job: _Job, path: str) -> list[int]:
        """Wait for a batch and deliver its answers; positions to ask again. A stop leaves the batch to the next run."""
        state = await self._wait(run, job)
        if state is None:
            return []
        answers: dict[str, Outcome] = {}
        for name in ("output_file_id", "error_file_id"):
            if state.get(name):
                answers.update(await self._answers(str(state[name]), run))
        again: list[int] = []
        for one, outcome in answers.items():
            i = self._open.pop(one, None)
            if i is None:
                continue
            if outcome.kind == "reply":
                self._client.answered(self._rows[i].request)
            if outcome.kind == "fatal":
                await self._client.end(run, outcome)
                raise run.fatal or BackendError("the batch endpoint failed")
            mends = self._rows[i].take(outcome, 1)
            self._count(run, self._rows[i].reply.failure)
            if mends or outcome.kind == "passing":
                again.append(i)
            else:
                await self._finish(run, i)
        job.ids = [one for one in job.ids if one in answers and one not in self._ours]
        if job.ids:  # answers that another list of calls may still ask for
            self._note(job, path, ())
        elif self._pledges is not None:
            self._pledges.drop(job.name)
        return again

    async def _wait(self, run: Run, job: _Job) -> Mapping[str, Any] | None:
        """The state of a batch when it has ended; None when a stop came first."""
        pause = min(1.0, self._poll_seconds)
        while True:
            state = await self._exchange(f"/batches/{job.batch}", None, run, may_lack=True)
            if not state:
                return state  # the server has forgotten it
            status = str(state.get("status"))
            counts = state.get("request_counts") if isinstance(state.get("request_counts"), dict) else {}
            if self._pledges is not None:
                through = int((counts or {}).get("completed", 0)) + int((counts or {}).get("failed", 0))
                self._pledges.say(self._done, f"batch {job.batch} {status}, {through:,} of {len(job.ids):,} answered")
            if status in ("failed", "cancelled"):
                if self._pledges is not None:
                    self._pledges.drop(job.name)
                raise EngineDown(
                    f"{self._client.endpoint}: batch {job.batch} {status}: {_why(state)}; mend it and run again"
                )
            if status in _ENDED:
                return state
            until = time.monotonic() + pause
            while time.monotonic() < until:
                if run.over:
                    return None
                await asyncio.sleep(min(0.25, max(0.0, until - time.monotonic())))
            pause = min(self._poll_seconds, 2 * pause)

    async def _upload(self, part: list[str], ids: Mapping[str, int], path: str, run: Run) -> _Job:
        """A file of requests at the server, noted before anything is asked to answer it."""
        lines = b"".join(self._line(one, self._rows[ids[one]], path) for one in part)
        mark = f"provender-{uuid.uuid4().hex}"
        content = (
            f'--{mark}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="requests.jsonl"\r\n'
            "content-type: application/jsonl\r\n\r\n"
        ).encode() + lines + f"\r\n--{mark}--\r\n".encode()  # fmt: skip
        said = await self._exchange("/files", content, run, content_type=f"multipart/form-data; boundary={mark}")
        job = _Job(file=str(said.get("id")), ids=part, name=f"{_PREFIX}{said.get('id')}")
        self._note(job, path, [ids[one] for one in part])
        return job

    async def _made(self, job: _Job, path: str, run: Run) -> str:
        """The batch of an uploaded file: the one that is there already, else a new one."""
        if found := await self._batch_of(job.file, run):
            return found
        wanted = {"input_file_id": job.file, "endpoint": f"/v1{path}", "completion_window": "24h"}
        said = await self._exchange(
            "/batches", json.dumps(wanted).encode(), run, once=lambda: self._batch_of(job.file, run)
        )
        return str(said["id"])

    async def _batch_of(self, file: str, run: Run) -> str:
        """The id of the batch that answers an uploaded file; empty if there is none."""
        after = ""
        for _ in range(_PAGES):
            page = await self._get(f"/batches?limit=100{after}", run)
            listed = [one for one in page.get("data") or [] if isinstance(one, dict)]
            for one in listed:
                if one.get("input_file_id") == file:
                    return str(one.get("id"))
            if not page.get("has_more") or not listed:
                break
            after = f"&after={listed[-1].get('id')}"
        return ""

    async def _answers(self, file: str, run: Run) -> dict[str, Outcome]:
        """What a file of results says of each custom id; lines that cannot be read are answers that never came."""
        raw = await self._exchange(f"/files/{file}/content", None, run, raw=True)
        found: dict[str, Outcome] = {}
        for line in bytes(raw["raw"]).splitlines():
            try:
                said = strict_json(line)
                one, answer = str(said["custom_id"]), said.get("response") or {}
                status, body = int(answer.get("status_code", 500)), answer.get("body")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
            if (i := self._open.get(one)) is not None:
                content = json.dumps(body if body is not None else {"error": said.get("error")}).encode()
                found[one] = self._client.reader(self._rows[i].current)(status, {}, content)
            else:
                found[one] = failed("undecodable", "an answer that nobody waits for")
        return found

    async def _get(self, path: str, run: Run) -> Mapping[str, Any]:
        return await self._exchange(path, None, run)

    async def _exchange(
        self, path: str, content: bytes | None, run: Run, *, content_type: str = "application/json", raw: bool = False,
        once: Any = None, may_lack: bool = False,
    ) -> Mapping[str, Any]:  # fmt: skip
        """One JSON object of the server, asked for until it comes. ``once`` tells whether a POST has succeeded unheard.

        Raises ``EngineDown`` when the server refuses, or gives no answer for ``outage_seconds``.
        """
        settings, began, tries = self._client.settings, time.monotonic(), 0

        def read(status: int, headers: Any, body: bytes) -> Outcome:
            if status == 200 and raw:
                return Outcome("reply", body={"raw": body})
            if status == 404 and may_lack:
                return Outcome("reply", body={})
            return _object(status, headers, body)

        while True:
            outcome = await self._client.http.exchange(
                path, content, read, content_type=content_type, cap=_RESULT_BYTES,
                seconds=max(settings.timeout_seconds, _TRANSFER_SECONDS if raw or content_type[0] == "m" else 0.0),
            )  # fmt: skip
            if outcome.kind == "reply" and outcome.body is not None:
                return outcome.body
            if outcome.kind != "passing" or time.monotonic() - began > settings.outage_seconds:
                said = self._client.clean(outcome.reply.message)
                hint = "; a server without a batch endpoint needs `batch: false`" if tries == 0 else ""
                raise EngineDown(
                    f"{self._client.endpoint}: {path.split('?')[0]} failed ({said}){hint}; run again, batches are kept"
                )
            tries += 1
            self._count(run, outcome.reply.failure)
            if run.over:
                raise EngineDown(
                    f"{self._client.endpoint}: stopped while it did not answer; run again, batches are kept"
                )
            pause = backoff_seconds(tries, 30.0, self._chance)
            await asyncio.sleep(pause)
            run.met("backoff", seconds=pause)
            if once is not None and (made := await once()):
                return {"id": made}

    def _line(self, one: str, row: Row, path: str) -> bytes:
        body = self._client.body(row.current)[1]
        return json.dumps({"custom_id": one, "method": "POST", "url": f"/v1{path}", "body": body}).encode() + b"\n"

    def _named(self, positions: Sequence[int]) -> dict[str, int]:
        """Custom id → position. The same request has the same id in every run; equal ones of a list are told apart."""
        named: dict[str, int] = {}
        for i in positions:
            row = self._rows[i]
            words = json.dumps([self._client.body(row.current), row.request.sampling.index], sort_keys=True)
            base = hashlib.sha256(words.encode()).hexdigest()[:40]
            one, repeat = base, 1
            while one in named:
                one, repeat = f"{base}-{repeat}", repeat + 1
            named[one] = i
        return named

    def _remembered(self, path: str) -> list[_Job]:
        """Batches of earlier runs that answer any of these requests."""
        jobs: list[_Job] = []
        for name, text in (self._pledges.notes() if self._pledges is not None else {}).items():
            if not name.startswith(_PREFIX):
                continue
            said = json.loads(text)
            here = (self._client.settings.base_url, self._client.settings.model, path)
            if (said["base_url"], said["model"], said["path"]) == here and self._ours & set(said["ids"]):
                jobs.append(_Job(file=said["file"], ids=said["ids"], batch=said["batch"], name=name))
        return jobs

    def _parts(self, admitted: list[str], ids: Mapping[str, int]) -> list[list[str]]:
        """Requests by the batch: so many, and so many bytes, at most."""
        parts: list[list[str]] = []
        room = 0
        for one in admitted:
            size = len(self._line(one, self._rows[ids[one]], ""))
            if not parts or len(parts[-1]) == self._most or size > room:
                parts.append([])
                room = _FILE_BYTES
            parts[-1].append(one)
            room -= size
        return parts

    def _note(self, job: _Job, path: str, positions: Sequence[int]) -> None:
        if self._pledges is not None:
            self._pledges.put(job.name, job.text(self._client, path), positions)

    async def _refuse(self, run: Run, i: int) -> None:
        self._rows[i].take(Outcome("terminal", Reply(failure="over-budget", finish_reason="error")), 0)
        await self._finish(run, i)

    @staticmethod
    def _count(run: Run, failure: FailureClass | None) -> None:
        """One request of a batch, or an exchange about batches that failed."""
        run.met("request")
        if failure is not None:
            run.met(failure)

    async def _finish(self, run: Run, i: int) -> None:
        self._done += 1
        await self._client.finish(run, i, self._rows[i])


def _object(status: int, headers: Any, body: bytes) -> Outcome:
    """A JSON object, or the class of what is wrong."""
    from backends.llm._openai_wire import outcome_of

    if status != 200:
        return outcome_of(status, headers, body, chat=True, estimate=0, price=None)
    try:
        said = strict_json(body)
    except (ValueError, RecursionError) as error:
        return failed("undecodable", f"the body is not JSON: {error}")
    return Outcome("reply", body=said) if isinstance(said, dict) else failed("undecodable", "the body is no object")


def _why(state: Mapping[str, Any]) -> str:
    """What the server says about a batch that failed."""
    errors = state.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else None
    said = [str(one.get("message")) for one in listed or [] if isinstance(one, dict)]
    return "; ".join(said)[:300] or "no reason given"
