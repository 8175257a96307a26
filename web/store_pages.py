"""Pages of a whole store: benchmarks with their hits and the review queue, mixtures, runs as they go, cost."""

import hmac
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from schemas.errors import UsageError
from storage.packs.reviews import hits, record
from storage.questions.benchmarks import benchmarks, hits_page
from storage.questions.cost import cost
from storage.questions.mixtures import mixtures
from storage.questions.progress import run_page, runs_page
from web import asked
from web.frame import Frame, as_json
from web.links import Links

PER_PAGE = 10
_MOST_BODY = 16_384


class StorePages:
    """See ``Pages``."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.store = frame.store

    def benchmarks(self, request: Request) -> Response:
        """The packs, and what was met where."""
        return self.frame.answer(
            request, benchmarks(self.store), "benchmarks.html", title="Benchmarks", here="benchmarks"
        )

    def hits(self, request: Request) -> Response:
        """Hits of a version side by side with the benchmark's items; the queue of those nobody has looked at."""
        named, is_json = asked.twin(request.path_params["version"])
        given = request.query_params
        address = self.frame.address(named)
        page = hits_page(
            self.store,
            self.store.resolve(address),
            rule=asked.text(given, "rule"),
            benchmark=asked.text(given, "benchmark"),
            unreviewed=bool(given.get("unreviewed")),
            start=asked.count(given, "start", 0),
            limit=PER_PAGE,
        )
        if is_json:
            return as_json(page)
        query = f"?{request.url.query}" if request.url.query else ""
        return self.frame.html(
            "hits.html",
            Links(address),
            page=page,
            title=f"Contamination of {address}",
            about=address,
            tab="hits",
            twin=f"{Links(address).of('hits', address)}.json{query}",
            back=f"{Links(address).of('hits', address)}{query}",
        )

    async def review(self, request: Request) -> Response:
        """The one thing the browser writes: what a person says about a hit. Only this site's own form is heard."""
        body = await request.body()
        if len(body) > _MOST_BODY:
            return PlainTextResponse("that is more than a review holds\n", 413)
        form = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if not hmac.compare_digest(form.get("csrf", "").encode(), self.frame.csrf.encode()):
            return PlainTextResponse("this form is out of date; open the page again\n", 403)
        await run_in_threadpool(self._record, form)
        back = form.get("back", "/")
        safe = back if back.startswith("/hits/") else "/benchmarks"
        return RedirectResponse(safe + f"#{form['key']}", 303)

    def _record(self, form: dict[str, Any]) -> None:
        verdict = form.get("verdict")
        if verdict not in ("accept", "reject"):
            raise UsageError("a review says accept or reject")
        ref = self.store.resolve(form.get("step", ""))
        found = next((hit for hit in hits(self.store, ref) if hit.key == form.get("key")), None)
        if found is None:
            raise UsageError(f"{ref} has no such hit; open the page again")
        record(self.store, found, verdict, who=form.get("who", "").strip(), reason=form.get("reason", "").strip())

    def mixtures(self, request: Request) -> Response:
        """What was mixed how, and what came of it."""
        return self.frame.answer(request, mixtures(self.store), "mixtures.html", title="Mixtures", here="mixtures")

    def runs(self, request: Request) -> Response:
        """Runs, newest first."""
        return self.frame.answer(request, runs_page(self.store), "runs.html", title="Runs", here="runs")

    def run(self, request: Request) -> Response:
        """One run: its steps as they stand."""
        named, is_json = asked.twin(request.path_params["run"])
        page = run_page(self.store, named)
        if is_json:
            return as_json(page)
        return self.frame.html(
            "run.html", Links(""), page=page, title=f"Run {page.run.run_id}", here="runs",
            twin=f"{Links('').run(page.run.run_id)}.json",
        )  # fmt: skip

    def cost(self, request: Request) -> Response:
        """What it all cost."""
        return self.frame.answer(request, cost(self.store), "cost.html", title="Cost", here="cost")
