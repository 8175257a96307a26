"""One list of requests on its way: its replies, which are alive, and why it ends early."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future

from backends.llm._openai_row import Row
from backends.protocols import Met, Meter, Reply, Request, Troubles
from schemas.errors import EngineDown


class Run:
    """One ``generate``: its replies, who is alive, and why it ends early."""

    def __init__(self, requests: Sequence[Request], meter: Meter | None, troubles: Troubles | None = None) -> None:
        self.requests = requests
        self._troubles: Troubles | None = troubles or getattr(meter, "troubles", None)
        self.replies: list[Reply | None] = [None] * len(requests)
        self.fatal: EngineDown | None = None
        self.refused = False
        self.doubted: list[tuple[int, Row]] = []  # refused while the server has not answered anything yet
        self._meter = meter
        self._alive: set[int] = set()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def over(self) -> bool:
        """Whether nothing is to be sent again."""
        return self.fatal is not None or (self._meter is not None and self._meter.draining())

    @property
    def alone(self) -> bool:
        """Whether at most one request is alive, so that nobody else's answer can show the endpoint to be sound."""
        return len(self._alive) <= 1

    def met(self, what: Met, *, seconds: float = 0.0, model: str = "") -> None:
        """Count what happened on the way."""
        if self._troubles is not None:
            self._troubles.met(what, seconds=seconds, model=model)

    def admit(self, i: int) -> bool:
        """Ask the meter for request ``i``."""
        if self._meter is not None and not self._meter.admit(i):
            return False
        self._alive.add(i)
        return True

    def deliver(self, i: int, reply: Reply) -> "Future[None] | None":
        """The end of request ``i``; the future is done when the reply is durable."""
        self.replies[i] = reply
        durable = self._meter.deliver(i, reply) if self._meter is not None else None
        self.left(i)
        return durable

    def left(self, i: int) -> None:
        """Request ``i`` is no longer alive; whoever waits for the budget may ask again."""
        self._alive.discard(i)
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            if not place.done():
                place.set_result(None)

    def doubt(self, i: int, row: Row) -> None:
        """Request ``i`` was refused, and perhaps so is every other: nothing is delivered before that is known."""
        self.doubted.append((i, row))
        self.left(i)

    async def another_delivery(self, i: int) -> bool:
        """Wait until a request other than ``i`` that is alive ends; False when none is."""
        if not self._alive - {i}:
            return False
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await place
        return True

    def end(self, error: EngineDown) -> None:
        """The run is over; the first reason stands."""
        self.fatal = self.fatal or error
