"""What a step has spent in this process, how fast it goes, when it will be through and what it will have cost by then."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from backends.protocols import Reply

#: The rate is that of so many seconds: old enough to be steady, young enough to show a change.
_WINDOW_SECONDS = 30.0
#: With fewer calls in that time, the rate is that of the last ``_KEPT``: the first call after a pause (a model is loaded or
#: tuned) would alone say 0.0 calls/s and days to go.
_FEWEST, _KEPT = 8, 32


@dataclass(frozen=True)
class Spent:
    """Sums over paid calls; ``usd`` is None as soon as one of them has no known price."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0

    def __sub__(self, other: "Spent") -> "Spent":
        """What was spent since ``other``."""
        usd = None if self.usd is None or other.usd is None else self.usd - other.usd
        return Spent(self.calls - other.calls, self.tokens - other.tokens, usd)

    def scaled(self, factor: float) -> "Spent":
        """So many times as much."""
        usd = None if self.usd is None else self.usd * factor
        return Spent(round(self.calls * factor), round(self.tokens * factor), usd)

    def __add__(self, other: "Spent") -> "Spent":
        """Both together."""
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Spent(self.calls + other.calls, self.tokens + other.tokens, usd)

    def words(self, billed: bool) -> str:
        """As people read it, without the unit of tokens: money where somebody sends an invoice and the price is known.

        >>> Spent(3, 4567, 0.0123).words(True), Spent(3, 4567, None).words(True), Spent(3, 4567).words(False)
        ('$0.0123', '4,567', '4,567')
        """
        if not billed or self.usd is None:
            return f"{self.tokens:,}"
        return f"${self.usd:,.4f}" if self.usd < 1 else f"${self.usd:,.2f}"


class Spending:
    """The account of one model in one step, for display. Threads may share it."""

    def __init__(self, billed: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.spent = Spent()
        self._billed, self._clock = billed, clock
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, int, int]] = deque()  # when, calls so far, tokens so far
        self._phase: tuple[int, int] = (0, 0)  # done and total as the method says
        self._before = Spent()  # what was spent before this phase
        self._began: float | None = None  # when this phase did

    def paid(self, reply: Reply) -> None:
        """Count a reply that was not in the cache."""
        tokens = reply.prompt_tokens + reply.completion_tokens
        with self._lock:
            self.spent = self.spent + Spent(1, tokens, reply.cost_usd if reply.cost_usd is not None or tokens else 0.0)
            now = self._clock()
            self._recent.append((now, self.spent.calls, self.spent.tokens))
            while len(self._recent) > _KEPT and now - self._recent[0][0] > _WINDOW_SECONDS:
                self._recent.popleft()

    def of_step(self, done: int, total: int) -> None:
        """How far the method says it has come; where it begins to count anew, another phase begins."""
        with self._lock:
            if self._began is None or total != self._phase[1] or done < self._phase[0]:
                self._before, self._began = self.spent, self._clock()
            self._phase = (done, total)

    def words(self, done: int, total: int, met: str = "") -> str:
        """One line: spent, the total it leads to, time left, rate; the most wanted first, for a terminal may cut it off.

        ``done`` of ``total`` calls of the present list are through; where the method has said how far its whole work is,
        that counts instead. ``met`` is what went wrong so far.
        """
        with self._lock:
            now = self._clock()
            calls, tokens = self._rates(now)
            left, whole = self._leads_to(done, total, calls, now)
            if whole is not None and whole.tokens <= self.spent.tokens:
                whole = None
            told = [f"spent {self._of(whole, self._billed)}"]
            if left is not None:
                told.append(f"ETA {span(left)}")
            if calls > 0:
                told.append(f"{calls:,.1f} calls/s, {tokens:,.0f} tokens/s")
            if met:
                told.append(met)
            if self._billed and self.spent.usd is not None:
                told.append(self._of(whole, False))
            elif self._billed:
                told.append("price unknown")
            return ", ".join(told)

    def _of(self, whole: Spent | None, billed: bool) -> str:
        """``$0.20 of about $1.00``, or the same in tokens."""
        of = f" of about {whole.words(billed)}" if whole is not None else ""
        return self.spent.words(billed) + of + ("" if billed and self.spent.usd is not None else " tokens")

    def _rates(self, now: float) -> tuple[float, float]:
        if len(self._recent) < 2:
            return 0.0, 0.0
        young = next((i for i, one in enumerate(self._recent) if now - one[0] <= _WINDOW_SECONDS), len(self._recent))
        enough = len(self._recent) - young >= _FEWEST
        first, last = self._recent[young if enough else 0], self._recent[-1]
        seconds = max(now - first[0], 1e-3)
        return (last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds

    def _leads_to(self, done: int, total: int, rate: float, now: float) -> tuple[float | None, Spent | None]:
        """(seconds left, all that will be spent), as far as can be told."""
        through, whole = self._phase
        if through and whole > through and self._began is not None:
            share = whole / through
            return (now - self._began) * (share - 1), self._before + (self.spent - self._before).scaled(share)
        if self.spent.calls and total > done:
            left = total - done
            return (left / rate if rate > 0 else None), self.spent + self.spent.scaled(left / self.spent.calls)
        return None, None


def span(seconds: float) -> str:
    """Time as people say it.

    >>> span(9), span(75), span(3700), span(90000)
    ('0:09', '1:15', '1:01:40', '25:00:00')
    """
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
