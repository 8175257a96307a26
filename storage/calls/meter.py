"""Between an engine and the ledger: a reservation before each request, a record and a settlement after each reply."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from backends.protocols import Reply, Request, TokenLogprobs
from backends.redact import redact
from storage.calls.budget import Budget, Refusal
from storage.calls.cache import CallCache, Settle, Stored
from storage.calls.keys import is_utf8, pack, reply_of, request_json, worst_tokens
from storage.calls.pledges import MeterPledges
from storage.calls.spending import Spending
from storage.calls.stopping import stop_asked
from storage.calls.troubles import Noted, Place, Tally, both

#: Failures that asking again cannot heal (or that were asked again as often as allowed): kept like answers.
SETTLED_FAILURES: frozenset[str] = frozenset({"refused-by-server", "empty", "wrong-schema", "cut-off"})
_PROGRESS_SECONDS = 0.25
_WAITING_SECONDS = 1.0

#: Sees each reply as it comes: reply, calls done, calls in all, a note, and whether it is time to show progress.
Watcher = Callable[[Reply, int, int, str, bool], None]


class LedgerMeter:
    """The meter of one list of calls: reservations before, records and settlements after."""

    def __init__(
        self,
        cache: CallCache,
        budget: Budget | None,
        keys: list[bytes],
        requests: list[Request],
        *,
        model: str,
        price: tuple[float, float] | None,
        billed: bool = True,
        watcher: Watcher | None = None,
        spending: Spending | None = None,
        on_note: Callable[[int, int, str], None] | None = None,
        before: int = 0,
        total: int = 0,
        tally: Tally | None = None,
    ) -> None:
        self.replies: dict[bytes, Reply] = {}
        self.passing: dict[bytes, Stored] = {}  # failures that are not cached, for the lineage
        self.refusal: Refusal | None = None
        self.stopped: str | None = None
        self._cache, self._budget, self._keys, self._requests = cache, budget, keys, requests
        self._model, self._price, self._watcher, self._on_note = model, price, watcher, on_note
        self._nothing_due = 0.0 if not billed else None
        self._before, self._total, self._scored = before, total, 0
        self._open: dict[int, list[int]] = {}
        self._lock = threading.Lock()
        self._spending, self._shown = spending or Spending(billed), 0.0
        self._error: Exception | None = None
        self._tally = tally or Tally(Place(), model)
        self.troubles = Noted(self._tally, lambda settle: cache.put(None, settle), self._show_waiting)
        self.pledges = MeterPledges(cache.pledges, self._entrusted, cache.flush, self._say)

    def admit(self, position: int) -> bool:
        """Reserve the worst case of this request; False when it does not fit, or a stop was asked for."""
        with self._lock:
            if self._error is not None:
                return False
            try:
                self._cache.check()
                self.stopped = self.stopped or stop_asked(self._cache.path.parent)
                if self.stopped is not None:
                    return False
                return self._reserve(position)
            except Exception as error:  # kept for let_go: an engine's loop must drain, not die
                self._error = error
                return False

    def _reserve(self, position: int) -> bool:
        if self._budget is None or not self._budget.bounded:
            return True
        prompt, longest = worst_tokens(self._requests[position])
        price = self._price
        usd = self._nothing_due if price is None else (prompt * price[0] + longest * price[1]) / 1e6
        got = self._budget.reserve(prompt + longest, usd)
        if isinstance(got, Refusal):  # what was delivered may not be settled yet: settle it, then ask once more
            self._cache.flush()
            got = self._budget.reserve(prompt + longest, usd)
        if isinstance(got, Refusal):
            self.refusal = got
            return False
        self.refusal = None
        self._open.setdefault(position, []).append(got)
        return True

    def draining(self) -> bool:
        """Whether a stop was asked for, or nothing can be stored any more."""
        self.stopped = self.stopped or stop_asked(self._cache.path.parent)
        return self.stopped is not None or self._error is not None

    def deliver(self, position: int, reply: Reply) -> Future[None] | None:
        """Store what came back, settle what it cost."""
        key = self._keys[position]
        if reply.failure == "over-budget":
            self.replies[key] = replace(reply, call=key)
            return None
        stored = self._record(key, position, reply)
        kept = reply.failure is None or (reply.failure in SETTLED_FAILURES and not reply.doubtful)
        durable = self._put(stored if kept else None, position, reply)
        if not kept:
            self.passing[key] = stored
        mine = reply_of(stored, cached=False)
        self.replies[key] = mine
        self._spending.paid(reply)
        now = time.monotonic()
        done = self._before + len(self.replies)
        show = now - self._shown > _PROGRESS_SECONDS or done == self._total
        self._shown = now if show else self._shown
        if self._watcher is not None:
            self._watcher(mine, done, self._total, self._words(done) if show else "", show)
        return durable

    def score(self, position: int, result: TokenLogprobs) -> None:
        """Store one scoring, settle its reservation, show it. All it read counts as prompt: nothing was written."""
        key = self._keys[position]
        read = result.prompt_tokens + result.n_tokens
        usd = None if self._price is None else read * self._price[0] / 1e6  # unknown is not nothing
        kept = result.failure is None or result.failure in SETTLED_FAILURES
        stored = Stored(
            key=key,
            kind="score",
            model=self._model,
            request=None,  # a scoring's text is an example of the dataset already
            payload=pack(result),
            failure=result.failure,
            prompt_tokens=read,
            cost_usd=usd,
        )
        if not kept:
            self.passing[key] = stored
        cost = Reply(prompt_tokens=read, cost_usd=usd)
        self._put(stored if kept else None, position, cost)
        self._spending.paid(cost)
        self._scored += 1
        done, now = self._before + self._scored, time.monotonic()
        if self._on_note is not None and (now - self._shown > _PROGRESS_SECONDS or done == self._total):
            self._shown = now
            self._on_note(done, self._total, self._words(done))

    def let_go(self) -> None:
        """Give back the reservations of what was never delivered, write what was met; raise what ``admit`` could not."""
        if (met := self._tally.settle()) is not None:
            self._cache.put(None, met)
        left = [number for numbers in self._open.values() for number in numbers]
        if left and self._budget is not None:
            self._cache.put(None, self._budget.release(left))
        self._open.clear()
        if self._error is not None:
            raise self._error

    def _entrusted(self, positions: Sequence[int]) -> list[int]:
        """The reservations of these requests, which are somebody else's from now on."""
        with self._lock:
            return [number for position in positions for number in self._open.pop(position, [])]

    def _say(self, done: int, note: str) -> None:
        if self._on_note is not None:
            self._on_note(self._before + done, self._total, f"{note}, {self._words(done)}")

    def _show_waiting(self) -> None:
        """While calls fail and wait to be sent again nothing may be delivered for long: the line goes on."""
        now = time.monotonic()
        if self._on_note is not None and now - self._shown > _WAITING_SECONDS:
            self._shown = now
            done = self._before + len(self.replies)
            self._on_note(done, self._total, self._words(done))

    def _words(self, done: int) -> str:
        return self._spending.words(done, self._total, self._tally.words())

    def _put(self, record: Stored | None, position: int, reply: Reply) -> Future[None]:
        """Record, settlement and what was met on the way: one transaction."""
        return self._cache.put(record, both(self._settle(position, reply), self._tally.settle()))

    def _settle(self, position: int, reply: Reply) -> Settle | None:
        if self._budget is None:
            return None
        reservations = self._open.pop(position, [])
        return self._budget.settlement(reservations, reply.prompt_tokens, reply.completion_tokens, reply.cost_usd)

    def _record(self, key: bytes, position: int, reply: Reply) -> Stored:
        text = redact(reply.text)
        failure, message = reply.failure, redact(reply.message)
        if not is_utf8(text):
            text, failure, message = "", "undecodable", "the reply holds half a character (a lone surrogate)"
        return Stored(
            key=key,
            kind="generate",
            model=reply.model or self._model,
            request=redact(request_json(self._requests[position])),
            reply=text,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost_usd=reply.cost_usd,
            attempts=reply.attempts,
            failure=failure,
            message=message[:2000],
        )
