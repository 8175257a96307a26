"""How fast to send: adaptive concurrency, backoff with full jitter, Retry-After, and a budget for repeats."""

import asyncio
import email.utils
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: No server may make us wait longer than this for one repeat, whatever its Retry-After says.
LONGEST_WAIT_SECONDS = 60.0

#: Answers after which the pace is looked at: fewer would mistake chance for load.
_WINDOW = 40
_HOLD_WINDOWS = 8
#: With a larger share rejected there are too few answers in a window to tell chance by, and waiting is right in any case.
_MOST_BY_CHANCE = 0.7

#: What each endpoint took last, in this process: a second model there, or a second engine, begins with it.
_learned: dict[str, float] = {}


@dataclass(frozen=True)
class _Cut:
    """What stood before a cut, and by how much was cut."""

    limit: float
    factor: float
    rate: float  # answers per second
    rejected: float  # share of what was sent


class Pace:
    """Concurrency of one endpoint: additive increase, multiplicative decrease, never below one.

    It begins with what the ``endpoint`` took last in this process, else with half of what is allowed, 16 to 64. Until
    the first rejection it doubles with each round of answers, so that a sound server is soon fully used.
    A cut must earn its place. Where rejections come from load, fewer requests at once are rejected less and cost little
    throughput: the cut stays, and the next one follows. Where they come at random, as large a share is rejected as
    before and throughput falls with the cut: it is taken back, and for a while rejections do not stop the climb (unless
    their share grows, or most of all is rejected). So a storm of 429 that our concurrency does not cause does not bring
    the run to its knees.
    """

    def __init__(self, ceiling: int, endpoint: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.ceiling = ceiling
        self._endpoint, self._clock = endpoint, clock
        self.limit = min(float(ceiling), _learned.get(endpoint, min(64.0, max(16.0, ceiling / 2))))
        self.in_flight = 0
        self.held = 0  # answered, but not durable yet: these would be lost in a crash like those in flight
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._good = self._bad = 0
        self._rising = True  # nothing was ever rejected: the limit doubles with each round
        self._since = clock()
        self._cut: _Cut | None = None
        self._hold = 0  # windows in which rejections are taken for chance
        self._chance = 0.0  # their share when that was found
        self._latency: deque[float] = deque(maxlen=64)
        self._recent: deque[bool] = deque(maxlen=64)

    async def enter(self) -> None:
        """Wait for a place."""
        while self.in_flight + self.held >= int(self.limit):
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            finally:
                if not place.done():
                    place.cancel()
        self.in_flight += 1

    def leave(self, *, overloaded: bool, seconds: float | None = None) -> None:
        """Give the place back. ``overloaded``: 429, 5xx, time-out; ``seconds``: how long a good answer took."""
        self.in_flight -= 1
        self._recent.append(not overloaded)
        if overloaded:
            self._bad += 1
            self._rising = False
        else:
            self._good += 1
            if self._rising:
                self.limit = min(float(self.ceiling), self.limit + 1.0)
            if seconds is not None:
                self._latency.append(seconds)
        if self._good + self._bad >= max(_WINDOW, 2 * int(self.limit)):
            self._adjust()
        self.wake()

    @property
    def wait_cap_seconds(self) -> float:
        """Longest backoff that makes sense now: short while most of what we send is answered, a minute in an outage."""
        if not self._latency or not self._recent:
            return LONGEST_WAIT_SECONDS
        answered = sum(self._recent) / len(self._recent)
        usual = sorted(self._latency)[len(self._latency) // 2]
        return min(LONGEST_WAIT_SECONDS, max(0.05, usual) / max(answered, 1e-3))

    def _adjust(self) -> None:
        """At the end of a window of about two rounds: climb, cut, or take the last cut back."""
        now = self._clock()
        rate = self._good / max(now - self._since, 1e-6)
        rejected = self._bad / (self._good + self._bad)
        self._good = self._bad = 0
        self._since = now
        cut, self._cut = self._cut, None
        likely = rejected <= _MOST_BY_CHANCE
        if cut is not None and likely and rejected > 0.75 * cut.rejected and rate < (1 + cut.factor) / 2 * cut.rate:
            self.limit, self._hold, self._chance = cut.limit, _HOLD_WINDOWS, cut.rejected
        by_chance = self._hold > 0 and likely and rate > 0 and rejected < 1.3 * self._chance + 0.05
        self._hold = self._hold - 1 if by_chance else 0
        if rejected < 0.02 or by_chance:
            self.limit = min(float(self.ceiling), self.limit + max(1.0, self.limit / 4))
        elif rejected > 0.1:
            factor = 0.5 if rejected > 0.3 else 0.75
            self._cut = _Cut(self.limit, factor, rate, rejected)
            self.limit = max(1.0, self.limit * factor)
        if self._endpoint:
            _learned[self._endpoint] = self.limit

    def wake(self) -> None:
        """Let in as many as fit."""
        free = int(self.limit) - self.in_flight - self.held
        while free > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1


class RepeatBudget:
    """Repeats that cost something: at most a share of the requests made, so that a sick server is not beaten to death.

    A 429 is free: the server did no work and asked us to come again.
    """

    def __init__(self, fraction: float = 0.2, floor: int = 20) -> None:
        self.fraction, self.floor = fraction, floor
        self.requests = self.repeats = 0

    def take(self) -> bool:
        """Whether one more repeat is within the budget; it is counted if so."""
        if self.repeats >= self.floor + self.fraction * self.requests:
            return False
        self.repeats += 1
        return True


def backoff_seconds(attempt: int, cap: float, chance: random.Random) -> float:
    """Full jitter: uniform between 0 and min(cap, 0.25 s doubled with each attempt)."""
    return chance.uniform(0.0, min(cap, 0.25 * 2.0 ** min(attempt, 16)))


def retry_after_seconds(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, 0 to 60; None if it is absent or makes no sense.

    >>> retry_after_seconds("2"), retry_after_seconds("999999"), retry_after_seconds("soon")
    (2.0, 60.0, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError, OverflowError):
            return None
        seconds = date.timestamp() - (time.time() if now is None else now)
    if seconds != seconds:
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
