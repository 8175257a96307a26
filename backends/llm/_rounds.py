"""Rounds of a list of requests: whatever came back in the wrong shape is asked again in the next one, boundedly."""

from collections.abc import Sequence
from dataclasses import replace

from backends.llm._accept import repaired
from backends.protocols import Meter, Reply, Request, Troubles


class Rounds:
    """What is still to be asked, and what has been answered. Tokens and attempts of all rounds add up in the reply."""

    def __init__(self, requests: Sequence[Request], meter: Meter | None, repairs: int) -> None:
        self.open = dict(enumerate(requests))
        self._requests, self._meter, self._repairs = requests, meter, repairs
        self._replies: list[Reply | None] = [None] * len(requests)
        self._so_far = [Reply(attempts=0)] * len(requests)
        self._troubles: Troubles | None = getattr(meter, "troubles", None)

    def answer(self, i: int, reply: Reply) -> None:
        """Take the reply to request ``i``: it is final, or the request stays open in a mended form."""
        self._count(reply)
        before = self._so_far[i]
        reply = self._so_far[i] = replace(
            reply,
            attempts=before.attempts + 1,
            prompt_tokens=before.prompt_tokens + reply.prompt_tokens,
            completion_tokens=before.completion_tokens + reply.completion_tokens,
        )
        if reply.attempts <= self._repairs:
            mended = repaired(self._requests[i], reply, reply.attempts - 1)
            if mended is not None:
                if self._troubles is not None:
                    self._troubles.met("repair")
                self.open[i] = mended
                return
        del self.open[i]
        self._replies[i] = reply
        if self._meter is not None:
            self._meter.deliver(i, reply)

    def _count(self, reply: Reply) -> None:
        """What an engine without a server can meet: replies that are none."""
        if self._troubles is not None and reply.failure != "over-budget":
            self._troubles.met("request")
            if reply.failure is not None:
                self._troubles.met(reply.failure)

    def replies(self) -> list[Reply]:
        """One per request, in order; only when nothing is open any more."""
        assert not self.open, "every request is answered or refused first"
        return [reply for reply in self._replies if reply is not None]
