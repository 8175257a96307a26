"""A page that takes longer than a page may says so and goes on: the work is not begun again when the browser asks again.

A navigation (``Accept: text/html``) waits ``seconds`` for its page. If that is not enough, what is shown names the page
and for how long it has been worked on, and asks again; that second request waits for the very same work. Programs, the
``.json`` twins and files of rows always get the whole answer.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

#: Seconds that a navigation waits before it is told that the page is being made.
SECONDS = 0.2
#: Seconds that a browser which was told so waits when it asks again: it shows the notice meanwhile.
AGAIN_SECONDS = 10.0
#: Pages worked on or not yet fetched; the oldest ones are forgotten first.
MOST = 64
#: Pages made at the same time; further ones wait their turn.
WORKERS = 8

Page = Callable[[Request], Response]
_FILES = (".json", ".csv", ".jsonl")


@dataclass
class _Going:
    work: Future[Response]
    began: float = field(default_factory=time.monotonic)


class Patience:
    """Hands requests to pages. ``notice`` makes what is shown meanwhile out of the request and the seconds so far."""

    def __init__(self, notice: Callable[[Request, float], Response], seconds: float | None = SECONDS) -> None:
        self.notice = notice
        self.seconds = seconds
        self._going: OrderedDict[str, _Going] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="page")

    def with_(self, page: Page) -> Page:
        """The page, made patiently. Without ``seconds`` it is the page itself."""
        if self.seconds is None:
            return page
        seconds = self.seconds

        def patient(request: Request) -> Response:
            navigates = "text/html" in request.headers.get("accept", "")
            if not navigates or request.url.path.endswith(_FILES) or "download" in request.query_params:
                return page(request)
            return self._answer(page, request, seconds)

        return patient

    def _answer(self, page: Page, request: Request, seconds: float) -> Response:
        """The page if it is made in time, else the notice; an error of the page is the request's."""
        key = f"{request.url.path}?{request.url.query}"
        with self._lock:
            going = self._going.get(key)
            told = going is not None
            if going is None:
                going = self._going[key] = _Going(self._pool.submit(page, request))
                while len(self._going) > MOST:
                    self._going.popitem(last=False)[1].work.cancel()
        wait([going.work], AGAIN_SECONDS if told else seconds)
        if not going.work.done() or going.work.cancelled():
            return self.notice(request, time.monotonic() - going.began)
        with self._lock:
            if self._going.get(key) is going:
                del self._going[key]
        return going.work.result()

    def busy(self) -> bool:
        """Whether a browser waits for a page: what is only made in advance should wait."""
        with self._lock:
            return any(not going.work.done() for going in self._going.values())

    def close(self) -> None:
        """Nothing further is begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
