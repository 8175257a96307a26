"""A circuit breaker: when an endpoint fails again and again, calls go elsewhere, and one at a time tries it again."""

import time
from collections.abc import Callable

_LONGEST_REST = 600.0


class Breaker:
    """Closed: calls go through. Open: they go elsewhere. Half open: after a rest one call tries; its fate decides."""

    def __init__(self, failures: int, rest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._first_rest, self._clock = failures, rest_seconds, clock
        self._rest = rest_seconds
        self._row = 0  # failures since the last success
        self._opened: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls go elsewhere."""
        return self._opened is not None

    def lets_through(self) -> bool:
        """Whether this call may try; an open breaker lets one through when its rest is over."""
        if self._opened is None:
            return True
        if self._trying or self._clock() - self._opened < self._rest:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """An answer came: closed."""
        self._row, self._opened, self._trying, self._rest = 0, None, False, self._first_rest

    def failed(self, *, at_once: bool = False) -> bool:
        """An exchange failed; ``at_once``: the endpoint is known to be of no use. Whether it opened by that."""
        self._row += 1
        if self._opened is not None:
            if self._trying:  # still ill: rest longer
                self._opened, self._trying = self._clock(), False
                self._rest = min(_LONGEST_REST, 2 * self._rest)
        elif at_once or self._row >= self._allowed:
            self._opened = self._clock()
            return True
        return False

    def tried(self) -> None:
        """A call that was let through has ended, whatever came of it: another may try when it is time."""
        self._trying = False
