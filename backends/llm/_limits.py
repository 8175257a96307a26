"""What a provider allows per minute: requests and tokens, spaced evenly, so that no window of a minute goes over."""

import asyncio
import time
from collections.abc import Callable

Clock = Callable[[], float]


class Rate:
    """A line of one per ``60 / per_minute`` seconds; who comes takes the next free moment."""

    def __init__(self, per_minute: float) -> None:
        self._each = 60.0 / per_minute
        self._next = 0.0

    def take(self, amount: float, now: float) -> float:
        """Seconds to wait before ``amount`` may go; the moment is taken."""
        begins = max(self._next, now)
        self._next = begins + amount * self._each
        return begins - now

    def give_back(self, amount: float) -> None:
        """So much was taken too much; negative: too little."""
        self._next -= amount * self._each


class Limits:
    """Both rates of one model. Tokens are taken at their worst case and given back when the reply says how many it was."""

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, clock: Clock = time.monotonic
    ) -> None:
        self._requests = Rate(requests_per_minute) if requests_per_minute else None
        self._tokens = Rate(tokens_per_minute) if tokens_per_minute else None
        self._clock = clock

    @property
    def bind(self) -> bool:
        """Whether there is a limit at all."""
        return self._requests is not None or self._tokens is not None

    def delay(self, tokens: int) -> float:
        """Seconds to wait before a request of so many tokens may go; its moment is taken."""
        now = self._clock()
        first = self._requests.take(1.0, now) if self._requests else 0.0
        return max(first, self._tokens.take(tokens, now) if self._tokens else 0.0)

    async def wait(self, tokens: int) -> float:
        """``delay``, waited for."""
        if (seconds := self.delay(tokens)) > 0:
            await asyncio.sleep(seconds)
        return seconds

    def settle(self, worst: int, used: int) -> None:
        """The request took ``used`` tokens, not ``worst``."""
        if self._tokens:
            self._tokens.give_back(worst - used)
