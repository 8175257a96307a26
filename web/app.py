"""The lineage browser: reads a store, starts nothing, writes reviews alone. Each page is a model with a ``.json`` twin."""

import logging
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from schemas.errors import CorruptStore, MissingDataset, ProvenderError, UsageError
from storage.questions.benchmarks import shown_evidence
from storage.questions.words import named
from storage.reading import ReadingStore
from storage.reports.draw_losses import losses
from storage.reports.report import environment, style
from storage.reports.sankey import sankey
from web.frame import Frame
from web.guard import Guard
from web.health_pages import HealthPages
from web.links import Links
from web.pages import Pages
from web.patience import SECONDS, Patience
from web.pieces import (
    colored,
    cut,
    evidence_facts,
    evidence_pairs,
    marked,
    request_rest,
    request_turns,
    score,
    spanned,
    triples,
    visible,
    word_diff,
)
from web.question_pages import QuestionPages
from web.row_pages import RowPages
from web.store_pages import StorePages
from web.warming import first_things

_HERE = Path(__file__).parent
_STATIC = {
    "web.js": "text/javascript; charset=utf-8",
    "graph.js": "text/javascript; charset=utf-8",
    "tables.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_app(
    store_root: str | Path,
    *,
    token: str | None = None,
    allowed_hosts: Sequence[str] = LOOPBACK,
    prefect: str | None = None,
    patience_seconds: float | None = SECONDS,
) -> Starlette:
    """The browser of one store.

    ``allowed_hosts`` are the names a request may carry in ``Host``; with ``token`` (at least 16 characters) every page
    asks for it; ``prefect`` is the address of Prefect's pages, which runs link to; after ``patience_seconds`` a browser is
    told that its page is being made (None: it waits). Raises ``MissingDataset`` if there is no store, ``UsageError`` for
    a short token.
    """
    if token is not None and len(token) < 16:
        raise UsageError("the token of the browser has fewer than 16 characters; give a longer one")
    templates = environment(_HERE / "templates")
    filters: dict[str, Any] = templates.filters
    filters.update(
        evidence_facts=evidence_facts,
        evidence_pairs=evidence_pairs,
        request_turns=request_turns,
        request_rest=request_rest,
        visible=visible,
        colored=colored,
        shown_evidence=shown_evidence,
        triples=triples,
        score=score,
    )
    named_in_pages: dict[str, Any] = templates.globals
    named_in_pages.update(
        word_diff=word_diff, marked=marked, cut=cut, spanned=spanned, sankey=sankey, named=named, draw_losses=losses
    )
    linked = prefect if prefect and prefect.startswith(("http://", "https://")) else None
    frame = Frame(ReadingStore.over(store_root), templates, secrets.token_urlsafe(24), linked)
    pages, row_pages, questions, stores = Pages(frame), RowPages(frame), QuestionPages(frame), StorePages(frame)
    care = HealthPages(frame)
    sheet = style() + (_HERE / "static" / "web.css").read_text(encoding="utf-8")

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        fresh = {"cache-control": "max-age=600"}
        if name == "style.css":
            return Response(sheet, media_type="text/css; charset=utf-8", headers=fresh)
        if name not in _STATIC:
            raise MissingDataset("no such file")
        return Response((_HERE / "static" / name).read_bytes(), media_type=_STATIC[name], headers=fresh)

    def failed(request: Request, error: Exception) -> Response:
        return _failed(templates, request, error)

    def working(request: Request, seconds: float) -> Response:
        shown = frame.html("working.html", Links(""), title=_subject(request.url.path), seconds=seconds)
        shown.status_code = 202
        return shown

    patience = Patience(working, patience_seconds)
    patient = patience.with_
    routes = [
        Route("/", patient(pages.datasets)),
        Route("/datasets", patient(pages.datasets)),
        Route("/datasets.json", patient(pages.datasets)),
        Route("/versions", patient(pages.versions)),
        Route("/versions.json", patient(pages.versions)),
        Route("/d/{version:path}", patient(pages.version)),
        Route("/graph/{version:path}", patient(pages.graph)),
        Route("/card/{version:path}", patient(pages.card)),
        Route("/report/{version:path}", pages.report),
        Route("/rows/{version:path}", patient(row_pages.rows)),
        Route("/sql/{version:path}", patient(row_pages.sql)),
        Route("/hits/{version:path}", patient(stores.hits)),
        Route("/what-if/{version:path}", patient(questions.what_if)),
        Route("/receipt/{version:path}", patient(care.receipt)),
        Route("/e/{example}", patient(pages.example)),
        Route("/call/{version:path}", patient(pages.call)),
        Route("/near/{example}", patient(pages.near)),
        Route("/find", pages.find),
        Route("/review", stores.review, methods=["POST"]),
        Route("/runs/{run}", patient(stores.run)),
        *(
            Route(f"/{name}{kind}", patient(page))
            for name, page in (
                ("compare", pages.compare),
                ("pasted", pages.pasted),
                ("blast", questions.blast),
                ("benchmarks", stores.benchmarks),
                ("mixtures", stores.mixtures),
                ("runs", stores.runs),
                ("cost", stores.cost),
                ("health", care.health),
            )
            for kind in ("", ".json")
        ),
        Route("/blast.csv", patient(questions.blast)),
        Route("/blast.jsonl", patient(questions.blast)),
        Route("/static/{name}", static),
    ]

    def warmed() -> None:
        for work in first_things(frame.store, templates):
            while patience.busy():  # who asks is served first
                time.sleep(0.02)
            try:
                work()
            except (ProvenderError, OSError) as error:
                logging.getLogger("provender").debug("not warmed: %s", error)

    reading = threading.Thread(target=warmed, name="warm", daemon=True)

    def read_ahead(seconds: float) -> None:
        """Begins to read what is asked first, unless that is begun, and waits for the end of it so long at most."""
        if reading.ident is None:
            reading.start()
        reading.join(seconds)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
        read_ahead(0)
        yield
        patience.close()

    app = Starlette(
        lifespan=lifespan,
        routes=routes,
        middleware=[Middleware(Guard, hosts=tuple(allowed_hosts), token=token)],
        exception_handlers={ProvenderError: failed, 404: failed, 500: failed},
    )
    app.state.read_ahead = read_ahead
    return app


def _subject(path: str) -> str:
    """What a page is about, for the notice that it is being made: ``compare``, ``rows: bench@v2``."""
    page, _, rest = path.strip("/").partition("/")
    said = {"d": "version", "e": "example", "near": "what reads like it"}.get(page, page) or "datasets"
    return f"{said}: {rest[:60]}" if rest else said


def _failed(templates: Environment, request: Request, error: Exception) -> Response:
    """An error as a page or as JSON. What is not the reader's to mend is logged and shown without its inside."""
    status, says = 500, "this page cannot be made; the log of `provender serve` says why"
    if isinstance(error, HTTPException):
        status, says = error.status_code, "there is no such page"
    elif isinstance(error, MissingDataset):
        status, says = 404, str(error)
    elif isinstance(error, UsageError):
        status, says = 400, str(error)
    elif isinstance(error, ProvenderError):
        status, says = (500 if isinstance(error, CorruptStore) else 503), str(error)
    else:
        logging.getLogger("provender").error("%s failed", request.url.path, exc_info=error)
    if request.url.path.endswith(".json"):
        return JSONResponse({"error": says}, status)
    blank = {"twin": None, "tab": "", "about": "", "here": ""}
    page = templates.get_template("error.html")
    text = page.render(status=status, says=says, title="Not shown", links=Links(""), **blank)
    return HTMLResponse(text.encode("utf-8", errors="replace"), status)
