"""A language model whose every call is cached, counted and kept for the lineage."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import polars as pl

from backends.protocols import LLM, Reply, Request, ScoreRequest, TokenLogprobs
from schemas.errors import BackendError, BudgetExceeded, Stopped
from storage.calls.budget import Budget, Ceilings
from storage.calls.cache import CallCache as PlainCache
from storage.calls.cache import Stored
from storage.calls.keys import (
    as_request,
    call_key,
    call_row,
    identity_text,
    is_billed,
    model_name,
    price_of,
    reply_of,
    score_key,
    scores_of,
)
from storage.calls.meter import LedgerMeter
from storage.calls.spending import Spending
from storage.calls.stopping import stop_asked
from storage.calls.troubles import Place, Tally

T = TypeVar("T")

#: Columns of a version's ``calls`` part.
CALLS: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.Binary,
    "kind": pl.String,
    "model": pl.String,
    "request": pl.String,
    "reply": pl.String,
    "finish_reason": pl.String,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "cost_usd": pl.Float64,
    "attempts": pl.Int32,
    "cached": pl.Boolean,
    "failure": pl.String,
}

#: Requests given to an engine at once when it does not report replies one by one: what a crash can cost at most.
CHUNK = 64
#: Requests given to an engine that reports each reply as it comes; between two lists it runs empty for a moment.
STREAMED_CHUNK = 65_536


class CallCache(PlainCache):
    """The durable call cache and budget ledger in one SQLite file."""

    def budget(
        self,
        run_id: str,
        stage: str,
        max_tokens: int | None = None,
        max_usd: float | None = None,
        max_seconds: float | None = None,
        *,
        of_stage: Ceilings = Ceilings(),
    ) -> Budget:
        """The account of a stage within the ceilings of its run; the same names go on with the same account."""
        return Budget(self.path, run_id, stage, Ceilings(max_tokens, max_usd, max_seconds), of_stage)


class CachedLLM:
    """``LLM`` over an engine: hits are answered first, misses are asked once each and durable before they are used.

    ``budget`` is asked before each request is sent; at its ceiling, and when a stop was asked for, what is in flight is
    finished and stored, then ``BudgetExceeded`` or ``Stopped`` is raised: a rerun goes on from there.
    ``on_call`` sees each reply of this process; ``on_progress(done, total, note)`` is called a few times a second, the
    note says what was spent, how fast it goes and what it leads to (``spending``). What was met on the way (``troubles``)
    is counted for this ``run`` and ``step`` on the budget's account.
    """

    def __init__(
        self,
        engine: LLM,
        cache: PlainCache,
        budget: Budget | None = None,
        on_call: Callable[[Reply], None] | None = None,
        *,
        on_progress: Callable[[int, int, str], None] | None = None,
        chunk: int = CHUNK,
        run: str = "",
        step: str = "",
    ) -> None:
        self.engine, self.cache, self.budget = engine, cache, budget
        self._on_call, self._on_progress = on_call, on_progress
        self._chunk = chunk
        self._identity = identity_text(engine.identity())
        self._model = str(getattr(engine, "name", "")) or model_name(engine.identity())  # as its replies say it
        self.spending = Spending(is_billed(engine))
        account = (budget.run, run or budget.run, budget.stage) if budget is not None else ("", run, "")
        self.troubles = Tally(Place(*account, step), self._model)
        self._used: dict[bytes, bool] = {}  # key → whether it was in the cache before; in order of use
        self._passing: dict[bytes, Stored] = {}  # failures that are not cached, for the lineage

    def identity(self) -> Mapping[str, Any]:
        """The engine's: a cache changes no reply."""
        return self.engine.identity()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The engine's count."""
        return self.engine.count_tokens(texts)

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, ``call`` and ``cached`` set. Equal requests of one list are one call."""
        keys = [call_key(self._identity, request) for request in requests]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        hits = self.cache.lookup(first)
        replies = {key: reply_of(stored, cached=True) for key, stored in hits.items()}
        misses = [key for key in dict.fromkeys(keys) if key not in replies]

        def send(part: list[bytes], done: int) -> dict[bytes, Reply]:
            return self._ask(part, [requests[first[key]] for key in part], len(hits) + done, len(first))

        replies.update(self._fly(misses, send, lambda stored: reply_of(stored, cached=True)))
        for key in dict.fromkeys(keys):
            self._used.setdefault(key, replies[key].cached)
        return [replies[key] for key in keys]

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        """One scoring per request, from the cache where it is known; durable before it is returned."""
        keys = [score_key(self._identity, request) for request in requests]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        found = {key: scores_of(stored) for key, stored in self.cache.lookup(first).items()}
        known = set(found)
        misses = [key for key in dict.fromkeys(keys) if key not in found]

        def send(part: list[bytes], done: int) -> dict[bytes, TokenLogprobs]:
            return self._score(part, [requests[first[key]] for key in part], done, len(keys))

        found.update(self._fly(misses, send, scores_of))
        for key in first:
            self._used.setdefault(key, key in known)
        return [replace(found[key], call=key) for key in keys]

    def taken(self) -> pl.DataFrame:
        """The calls used since the last ``taken``, each once, in order of first use: columns ``CALLS``."""
        frames = list(self.taken_batches())
        return pl.concat(frames) if frames else pl.DataFrame(schema=CALLS)

    def taken_batches(self, rows: int = 10_000) -> Iterator[pl.DataFrame]:
        """``taken`` in bounded memory."""
        used, self._used = self._used, {}
        passing, self._passing = self._passing, {}
        keys = list(used)
        for start in range(0, len(keys), rows):
            part = keys[start : start + rows]
            stored = {**passing, **self.cache.lookup(part)}
            yield pl.DataFrame(
                [call_row(stored[key], used[key]) for key in part if key in stored], schema=CALLS, orient="row"
            )

    def _fly(
        self, keys: list[bytes], send: Callable[[list[bytes], int], dict[bytes, T]], read: Callable[[Stored], T]
    ) -> dict[bytes, T]:
        """Results of calls that are not in the cache: sent from here, or awaited where somebody else has sent them."""
        results: dict[bytes, T] = {}
        with self.cache.claims.flight() as flight:
            while left := [key for key in keys if key not in results]:
                mine = flight.take(left)
                if not mine:
                    flight.wait(left, lambda waiting, owners: self._waits(len(keys), waiting, owners))
                    continue
                here = self.cache.lookup(mine)  # answered elsewhere between our look into the cache and our claim
                flight.drop(here)
                results.update((key, read(stored)) for key, stored in here.items())
                if mine := [key for key in mine if key not in here]:
                    results.update(send(mine, len(results)))
        return results

    def _waits(self, total: int, waiting: int, owners: set[int]) -> None:
        """Say so; a stop ends the waiting."""
        asked = stop_asked(self.cache.path.parent)
        if asked is not None:
            raise Stopped(
                f"stopped {asked} while waiting for {waiting} calls that another run has in flight; "
                "everything answered is kept, run again"
            )
        if self._on_progress is not None:
            who = ", ".join(str(pid) for pid in sorted(owners))
            self._on_progress(total - waiting, total, f"waiting for {waiting:,} calls in flight in process {who}")

    def _score(
        self, keys: list[bytes], requests: list[ScoreRequest], before: int, total: int
    ) -> dict[bytes, TokenLogprobs]:
        """Scorings that are not in the cache; each is stored as it is known, where the engine says so."""
        found: dict[bytes, TokenLogprobs] = {}
        size = self._chunk * 4
        for start in range(0, len(keys), size):
            part, asked = keys[start : start + size], requests[start : start + size]
            meter = self._meter(part, [as_request(request) for request in asked], before=before + start, total=total)
            left = list(range(len(part)))
            try:
                while left and (sent := _admitted(meter, left)):
                    left = left[len(sent) :]
                    found.update(self._scored(meter, {i: asked[i] for i in sent}, part))
            finally:
                meter.let_go()
                self.cache.flush()
                self._passing.update(meter.passing)
            if left:
                self._stop(meter, len(left) + max(0, len(keys) - start - size), len(keys))
        return found

    def _scored(
        self, meter: LedgerMeter, requests: Mapping[int, ScoreRequest], keys: list[bytes]
    ) -> dict[bytes, TokenLogprobs]:
        """The engine's scorings of requests by position, by key; one that talks to a server says what it met."""
        engine: Any = self.engine
        sent, known = list(requests), set[int]()

        def deliver(place: int, result: TokenLogprobs) -> None:
            known.add(place)
            meter.score(sent[place], result)

        extra = {"troubles": meter.troubles, "deliver": deliver}
        results: list[TokenLogprobs] = engine.logprobs(
            list(requests.values()), **{name: value for name, value in extra.items() if takes(engine.logprobs, name)}
        )
        for place, result in enumerate(results):
            if place not in known:
                deliver(place, result)
        return {keys[i]: result for i, result in zip(sent, results, strict=True)}

    def _ask(self, keys: list[bytes], requests: list[Request], before: int, total: int) -> dict[bytes, Reply]:
        """Replies of calls that are not in the cache."""
        metered = takes(self.engine.generate, "meter")
        size = STREAMED_CHUNK if metered else self._chunk
        replies: dict[bytes, Reply] = {}
        for start in range(0, len(keys), size):
            part, asked = keys[start : start + size], requests[start : start + size]
            meter = self._meter(part, asked, before=before + start, total=total)
            try:
                if metered:
                    cast(Any, self.engine).generate(asked, meter=meter)
                else:
                    self._ask_plain(asked, meter)
            finally:
                meter.let_go()
                self.cache.flush()
                self._passing.update(meter.passing)
            replies.update(meter.replies)
            for key, stored in self.cache.lookup(self.cache.lost_races(part)).items():
                replies[key] = reply_of(stored, cached=True)
            if refused := sum(reply.failure == "over-budget" for reply in meter.replies.values()):
                self._stop(meter, refused + max(0, len(keys) - start - size), len(keys))
        return replies

    def _ask_plain(self, requests: list[Request], meter: LedgerMeter) -> None:
        """For an engine that takes no meter: admit what fits, ask, deliver, and so on."""
        left = list(range(len(requests)))
        while left and (sent := _admitted(meter, left)):
            left = left[len(sent) :]
            answered = self.engine.generate([requests[i] for i in sent])
            if len(answered) != len(sent):
                raise BackendError(f"the engine gave {len(answered)} replies to {len(sent)} requests; this is a bug")
            for i, reply in zip(sent, answered, strict=True):
                meter.deliver(i, reply)
        for i in left:
            meter.deliver(i, Reply(failure="over-budget", finish_reason="error"))

    def _meter(self, keys: list[bytes], requests: list[Request], *, before: int = 0, total: int = 0) -> LedgerMeter:
        return LedgerMeter(
            self.cache,
            self.budget,
            keys,
            requests,
            model=self._model,
            price=price_of(self.engine),
            billed=is_billed(self.engine),
            watcher=self._told,
            spending=self.spending,
            on_note=self._on_progress,
            tally=self.troubles,
            before=before,
            total=total,
        )

    def _told(self, reply: Reply, done: int, total: int, note: str, show: bool) -> None:
        if self._on_call is not None:
            self._on_call(reply)
        if self._on_progress is not None and show:
            self._on_progress(done, total, note)

    def _stop(self, meter: LedgerMeter, left: int, total: int) -> None:
        """Say why calls were not sent; everything that was sent is stored by now."""
        if meter.stopped is not None:
            raise Stopped(
                f"stopped {meter.stopped} with {left} of {total} calls left; everything answered is kept, run again"
            )
        if meter.refusal is not None:
            raise BudgetExceeded(meter.refusal.says(left))
        raise BackendError(f"the engine left {left} of {total} calls unsent without a reason; report it as a bug")


def _admitted(meter: LedgerMeter, left: Sequence[int]) -> list[int]:
    """The first of these requests that may be sent now."""
    sent: list[int] = []
    for i in left:
        if not meter.admit(i):
            break
        sent.append(i)
    return sent


def takes(function: Callable[..., Any], keyword: str) -> bool:
    """Whether an engine's function takes a keyword that only some engines know."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == keyword or p.kind is p.VAR_KEYWORD for p in parameters)
