"""What all pages share: the store, the templates, and how an answer becomes HTML, JSON or a file."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from schemas.errors import MissingDataset
from storage.questions.show import tags_of
from storage.store import Store
from web.links import Links

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Frame:
    """One store's browser. ``prefect`` is the address of Prefect's pages, if there is one."""

    store: Store
    templates: Environment
    csrf: str
    prefect: str | None = None

    def address(self, named: str) -> str:
        """``name@vN`` for a tag, the full ref for anything else; ``MissingDataset`` if there is no such thing."""
        ref = self.store.resolve(named)
        if "@" in named:
            if not re.search(r"@v[0-9]+$", named):
                return str(ref)
            try:
                self.store.describe(ref)
            except MissingDataset as error:
                raise MissingDataset(
                    f"{named} stands for {ref}, whose manifest is no longer in this store: removed, or lost with a disk. "
                    "Other versions can still be read; `provender verify` says what else is missing"
                ) from error
            return named
        numbers = [tag.number for tag in tags_of(self.store, ref) if tag.name == named]
        if not numbers:
            raise MissingDataset(f"the store has no dataset {named[:80]!r}")
        return f"{named}@v{numbers[-1]}"

    def has_run(self, run_id: object) -> bool:
        """Whether the store still has the log of a run: old ones may have been removed."""
        return bool(_RUN.fullmatch(str(run_id))) and (self.store.root / "runs" / str(run_id)).is_dir()

    def answer(self, request: Request, model: BaseModel, template: str, within: str = "", **more: Any) -> Response:
        """A model as its page, or as JSON if the address ends in ``.json``."""
        if request.url.path.endswith(".json"):
            return as_json(model)
        return self.html(template, Links(within), page=model, **({"twin": twin_of(request)} | more))

    def html(self, template: str, links: Links, **context: Any) -> Response:
        """A page."""
        context = {
            "twin": None,
            "tab": "",
            "about": "",
            "here": "",
            "csrf": self.csrf,
            "has_run": self.has_run,
            "prefect": self.prefect,
        } | context
        text = self.templates.get_template(template).render(links=links, **links.functions(), **context)
        return HTMLResponse(text.encode("utf-8", errors="replace"))


def twin_of(request: Request) -> str:
    """The address of the same answer as JSON."""
    query = request.url.query
    return f"{request.url.path}.json" + (f"?{query}" if query else "")


def as_json(model: BaseModel) -> Response:
    """A model as JSON; half a surrogate pair becomes the mark for what cannot be shown."""
    try:
        text = model.model_dump_json()
    except ValueError:
        import json

        text = json.dumps(model.model_dump(mode="python"), default=str)
    return Response(text, media_type="application/json")


def attachment(text: str, name: str, kind: str) -> Response:
    """A text as a file to keep, which no browser runs."""
    return Response(text.encode("utf-8", errors="replace"), media_type=kind, headers=_kept(name))


def streamed(lines: Iterable[str], name: str, kind: str) -> Response:
    """Lines as a file to keep, sent while they are made."""
    return StreamingResponse(
        (line.encode("utf-8", errors="replace") for line in lines), media_type=kind, headers=_kept(name)
    )


def _kept(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"', "content-security-policy": "sandbox"}
