"""The asynchronous client of one OpenAI-compatible endpoint: one retry layer, adaptive concurrency, no lost reply."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from backends.llm._advice import about_key, about_models, about_refusals
from backends.llm._breaker import Breaker
from backends.llm._limits import Limits
from backends.llm._openai_http import Http, Read
from backends.llm._openai_row import Row
from backends.llm._openai_run import Run
from backends.llm._openai_settings import Settings
from backends.llm._openai_wire import (
    Outcome,
    body_of,
    estimated_tokens,
    failed,
    json_object,
    outcome_of,
)
from backends.llm._pacing import Pace, RepeatBudget, backoff_seconds, retry_after_seconds
from backends.protocols import Meter, Reply, Request
from backends.redact import redact
from schemas.errors import EngineDown

#: Calls that are alive at once, sent or waiting to be sent again, as a multiple of the concurrency.
_ALIVE = 4
#: Refused connections (or web pages) after which a server that has never answered counts as absent.
_FIRST_TRIES = 4
#: Requests that a server refuses without ever having answered one: then it is not the rows' fault.
_FIRST_REFUSALS = 20


class Client:
    """Lives on one event loop. ``generate`` may run several times at once: the pace is that of the endpoint.

    With a ``second`` client, what this endpoint cannot answer is asked there, and everything while its breaker is open.
    """

    def __init__(self, settings: Settings, second: "Client | None" = None) -> None:
        self.settings = settings
        self.second = second
        self.called = ""  # in counts: empty is the engine's own name
        if second is not None:
            second.called = second.settings.model
            if second.called == settings.model:
                second.called += f"@{urlsplit(second.settings.base_url).hostname}"
        self.patient = False  # a server that refuses connections is being mended
        self.broken: EngineDown | None = None  # it cannot be mended
        self.http = Http(settings.base_url, settings.key, settings.timeout_seconds, settings.max_reply_bytes)
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_rest_seconds)
        self.pace = Pace(settings.concurrency, settings.base_url)
        self._limits = Limits(settings.requests_per_minute, settings.tokens_per_minute)
        self.repeats = RepeatBudget()
        self._chance = random.Random()  # jitter decides when, never what
        self._answered = False
        self._replied = False
        self._kinds: set[str] = set()  # kinds of requests of which one was answered
        self._refusals: Counter[str] = Counter()  # by kind, before the first answer
        self.scores = False  # it has scored a text
        self._last_answer = time.monotonic()

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()
        if self.second is not None:
            await self.second.close()

    async def generate(self, requests: Sequence[Request], meter: Meter | None) -> list[Reply]:
        """One reply per request, each delivered to the meter the moment it is complete.

        Raises ``EngineDown`` when the endpoint refuses the key or the model, or no longer answers; what was paid for
        is delivered first.
        """
        run = Run(requests, meter)
        self._last_answer = time.monotonic()
        places = asyncio.Semaphore(_ALIVE * self.settings.concurrency)
        tasks: set[asyncio.Task[None]] = set()
        for i in range(len(requests)):
            await places.acquire()
            if run.fatal is not None:
                break
            task = asyncio.create_task(self._row(run, i))
            tasks.add(task)
            task.add_done_callback(lambda done: (tasks.discard(done), places.release()))
        try:
            while tasks:
                await asyncio.gather(*list(tasks))
            await self._believe(run)
        finally:
            for task in tasks:
                task.cancel()
        if run.fatal is not None:
            raise run.fatal
        return [reply for reply in run.replies if reply is not None]

    async def ask(
        self,
        path: str,
        body: dict[str, Any],
        read: Read,
        run: Run,
        i: int | None = None,
        *,
        worst_tokens: int = 0,
        trial: bool = False,
    ) -> tuple[Outcome, int]:
        """One exchange, repeated while its failure passes; the last outcome and how many times it was sent.

        With ``i`` the meter is asked for that request before the first time. ``worst_tokens`` is for a token limit.
        Where there is a second endpoint and the breaker opens, only a ``trial`` is still sent here.
        """
        began = time.monotonic()
        content = json.dumps(body, ensure_ascii=True).encode()
        sent = costly = 0
        while True:
            if not await self._enter(run, i if sent == 0 else None, worst_tokens):
                return Outcome("terminal", Reply(failure="over-budget", finish_reason="error")), sent
            if self.second is not None and self.breaker.is_open and not trial:
                self._leave_unused()
                return failed("connection", f"{self.endpoint} is out of order"), sent
            outcome = await self._send(path, content, read, run)
            self._limits.settle(worst_tokens, outcome.reply.prompt_tokens + outcome.reply.completion_tokens)
            self.repeats.requests += sent == 0
            sent += 1
            if outcome.kind != "passing":
                if outcome.kind != "fatal":
                    self._answered, self._last_answer = True, time.monotonic()
                    self.breaker.succeeded()
                self._replied |= outcome.kind == "reply"
                return outcome, sent
            if self.broken is not None or self._is_gone(sent, outcome, began):
                if self.second is None:
                    run.end(self.broken or EngineDown(self._gone(outcome)))
                self._failed(run, at_once=True)
            free = outcome.reply.failure == "rate-limited"
            if not free or self.breaker.is_open:
                self._failed(run)
            if self.second is not None and self.breaker.is_open:
                return outcome, sent
            waited = time.monotonic() - began
            costly += not free
            healthy = self._last_answer > began  # others are answered: the failure is this row's own
            mending = self.patient and outcome.reply.failure == "connection"
            costly -= mending
            spent = costly >= self.settings.max_attempts and (healthy or run.alone)
            refused = healthy and not free and not mending and not self.repeats.take()
            if spent or refused or run.over or waited > self.settings.deadline_seconds:
                return outcome, sent
            asked = retry_after_seconds(outcome.retry_after)
            delay = max(asked or 0.0, backoff_seconds(sent - 1, self.pace.wait_cap_seconds, self._chance))
            slept = await self._sleep(min(delay, max(0.0, self.settings.deadline_seconds - waited)), run)
            run.met("backoff" if delay != asked else "retry-after", seconds=slept, model=self.called)

    def answered(self, request: Request) -> None:
        """One of this kind got a reply: what is refused from now on is so for its own sake."""
        self._kinds.add(_kind(request))

    async def end(self, run: Run, outcome: Outcome, *, continuation: bool = False) -> None:
        """What ends the run, in words; ``continuation``: a text was to be continued, which not every server does."""
        help = "mend it"
        if outcome.status in (401, 403):
            help = about_key(self.settings.key_name)
        elif outcome.status == 404 or 300 <= outcome.status < 400:
            help = about_models(self.settings.model, await self._models(), continuation)
        run.end(EngineDown(f"{self.endpoint}: {self.clean(outcome.reply.message)}; {help} and run again"))

    def row(self, request: Request) -> Row:
        """A request at its beginning."""
        return Row(request, self.settings.accept_cut_off, self.settings.repairs)

    async def finish(self, run: Run, i: int, row: Row) -> None:
        """Deliver the row's reply; its place is free when it is durable."""
        reply = row.final()
        doubtful = reply.failure == "refused-by-server" and _kind(row.request) not in self._kinds
        reply = replace(reply, text=self.clean(reply.text), message=self.clean(reply.message), doubtful=doubtful)
        durable = run.deliver(i, reply)
        if durable is not None:
            self.pace.held += 1
            try:
                await asyncio.wrap_future(durable)
            finally:
                self.pace.held -= 1
                self.pace.wake()

    def body(self, request: Request) -> tuple[str, dict[str, Any]]:
        """(path, body) of a request."""
        settings = self.settings
        body = body_of(request, settings.model, neutralize=settings.neutralize, structured=settings.structured)
        body.update(settings.extra_body)
        if settings.max_tokens_name != "max_tokens":
            body[settings.max_tokens_name] = body.pop("max_tokens")
        return ("/chat/completions" if request.prompt is None else "/completions"), body

    def reader(self, request: Request) -> Read:
        """What the answer to a request means."""
        chat, price = request.prompt is None, self.settings.price
        estimate = sum(estimated_tokens(text) for text in _texts(request))

        def read(status: int, headers: Any, raw: bytes) -> Outcome:
            return outcome_of(status, headers, raw, chat=chat, estimate=estimate, price=price)

        return read

    def refused_unsent(self, request: Request) -> Outcome | None:
        """A row is refused before it is sent when its prompt is longer than the cap."""
        tokens = sum(estimated_tokens(text) for text in _texts(request))
        if tokens <= self.settings.max_prompt_tokens:
            return None
        problem = f"the prompt has about {tokens:,} tokens, the cap `max_prompt_tokens` is {self.settings.max_prompt_tokens:,}"
        return Outcome("terminal", Reply(failure="refused-by-server", finish_reason="error", message=problem))

    @property
    def endpoint(self) -> str:
        """The endpoint in words."""
        return f"model {self.settings.model} at {self.settings.base_url}"

    def clean(self, text: str) -> str:
        """The text without a key of ours."""
        keys = (self.settings.key, self.second.settings.key if self.second is not None else None)
        return redact(text, tuple(key for key in keys if key))

    async def _row(self, run: Run, i: int) -> None:
        """One request to its end."""
        row = self.row(run.requests[i])
        again, refused = True, False
        while again:
            outcome, sent = self.refused_unsent(row.current), 1
            if outcome is None:
                outcome, sent = await self._once(run, i, row.current)
                refused = outcome.kind == "terminal" and outcome.status >= 400
            if outcome.kind == "fatal":
                await self.end(run, outcome, continuation=row.current.prompt is not None)
                run.left(i)
                return
            if outcome.kind == "reply":
                self.answered(row.request)
            again = row.take(outcome, sent) and not run.over and self.repeats.take()
            if outcome.kind == "reply" and row.reply.failure is not None:
                run.met(row.reply.failure, model=outcome.elsewhere)
            if again:
                run.met("repair", model=outcome.elsewhere)
        if refused and _kind(row.request) not in self._kinds:
            self._doubt(run, i, row)
            return
        await self._believe(run, self._kinds)
        await self.finish(run, i, row)

    def _doubt(self, run: Run, i: int, row: Row) -> None:
        """Hold a refusal back; when nothing but refusals came the run ends, and none of them is kept as a row's own."""
        run.doubt(i, row)
        kind = _kind(row.request)
        self._refusals[kind] += 1
        if self._refusals[kind] >= _FIRST_REFUSALS:
            said = self.clean(row.reply.message)
            run.end(
                EngineDown(
                    f"{self.endpoint} refused each of the first {self._refusals[kind]} requests {kind} ({said}); "
                    f"{about_refusals(said)} and run again"
                )
            )

    async def _believe(self, run: Run, kinds: Collection[str] | None = None) -> None:
        """Such a request (None: any) was answered, or nothing more comes: those refused are so for their own sake."""
        if run.fatal is None and run.doubted:
            sure = [(i, row) for i, row in run.doubted if kinds is None or _kind(row.request) in kinds]
            run.doubted = [one for one in run.doubted if one not in sure]
            for i, row in sure:
                await self.finish(run, i, row)

    async def _models(self) -> list[str]:
        """The models that the server says it has; none where it does not say."""
        outcome = await self.http.exchange("/models", None, json_object, seconds=5.0)
        listed = (outcome.body or {}).get("data")
        names = [one.get("id") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        return [name for name in names if isinstance(name, str)]

    async def _once(self, run: Run, i: int, request: Request) -> tuple[Outcome, int]:
        """Ask for one draw, here or at the second endpoint."""
        sent = 0
        trial = self.breaker.is_open
        if self.second is None or self.breaker.lets_through():
            outcome, sent = await self._ask_for(request, run, i, trial)
            if self.second is None or outcome.kind not in ("passing", "fatal") or run.over:
                self.breaker.tried()
                return outcome, sent
            if outcome.kind == "fatal":
                self._failed(run, at_once=True)
            self.breaker.tried()
        assert self.second is not None
        run.met("fallback", model=self.second.called)
        outcome, there = await self.second._ask_for(request, run, None if sent else i)
        name = outcome.reply.model or self.second.settings.model
        if name == self.settings.model:
            name = f"{name}@{urlsplit(self.second.settings.base_url).hostname}"
        reply = replace(outcome.reply, model=name)
        return replace(outcome, reply=reply, elsewhere=self.second.called), sent + there

    async def _ask_for(self, request: Request, run: Run, i: int | None, trial: bool = False) -> tuple[Outcome, int]:
        path, body = self.body(request)
        worst = sum(estimated_tokens(text) for text in _texts(request)) + request.sampling.max_tokens
        return await self.ask(path, body, self.reader(request), run, i, worst_tokens=worst, trial=trial)

    async def _enter(self, run: Run, i: int | None, worst_tokens: int) -> bool:
        """Wait for a place, and for request ``i`` for the budget; False when nothing more may be sent."""
        if self._limits.bind and (seconds := await self._limits.wait(worst_tokens)):
            run.met("limit", seconds=seconds, model=self.called)
        while True:
            await self.pace.enter()
            if run.fatal is not None or (i is not None and run.refused):
                break
            if i is None or run.admit(i):
                return True
            self._leave_unused()
            if run.doubted:  # their reservations are in the way
                await self._believe(run)
                continue
            if not await run.another_delivery(i):
                run.refused = True
                return False
        self._leave_unused()
        return False

    def _leave_unused(self) -> None:
        self.pace.in_flight -= 1
        self.pace.wake()

    async def _send(self, path: str, content: bytes, read: Read, run: Run) -> Outcome:
        """One HTTP exchange and its meaning, counted; the place is given back."""
        began = time.monotonic()
        overloaded = True
        run.met("request", model=self.called)
        try:
            outcome = await self.http.exchange(path, content, read)
            overloaded = outcome.overloaded
            if outcome.reply.failure is not None:
                run.met(outcome.reply.failure, model=self.called)
            return outcome
        finally:
            self.pace.leave(overloaded=overloaded, seconds=time.monotonic() - began)

    def _failed(self, run: Run, *, at_once: bool = False) -> None:
        """Tell the breaker; that it opened counts where calls can go elsewhere."""
        if self.breaker.failed(at_once=at_once) and self.second is not None:
            run.met("breaker", model=self.called)

    def _is_gone(self, sent: int, outcome: Outcome, began: float) -> bool:
        """Whether the endpoint, not the row, is the trouble: never reached at all, or silent for too long."""
        if outcome.reply.failure == "rate-limited":
            return False
        if outcome.reply.failure == "connection" and not self._answered and not self.patient and sent >= _FIRST_TRIES:
            return True
        if outcome.page and not self._replied and sent >= _FIRST_TRIES:
            return True
        silent = time.monotonic() - max(self._last_answer, began)
        return sent > 1 and silent > max(self.settings.outage_seconds, 2 * self.settings.timeout_seconds)

    def _gone(self, outcome: Outcome) -> str:
        said, help = self.clean(outcome.reply.message), "bring it back and run again, everything answered is kept"
        if outcome.page and not self._replied:
            return f"{self.endpoint} is no model server: {said}; check `base_url`, which ends with /v1, and run again"
        if not self._answered:
            help = "start it, or correct `base_url`, and run again"
        return f"{self.endpoint} does not answer ({outcome.reply.failure}: {said}); {help}"

    async def _sleep(self, seconds: float, run: Run) -> float:
        """Sleep, but not through a stop, nor through a turn to the second endpoint; for how long."""
        began = time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0 and not run.over:
            if self.second is not None and self.breaker.is_open:
                break
            await asyncio.sleep(min(left, 0.5))
        return time.monotonic() - began


def _kind(request: Request) -> str:
    """Requests that a server refuses or takes alike, whatever they say."""
    to_do = "for a chat" if request.prompt is None else "to continue a text"
    return f"{to_do} in JSON" if request.sampling.json_schema is not None else to_do


def _texts(request: Request) -> list[str]:
    return [request.prompt] if request.prompt is not None else [turn.content for turn in request.messages]
