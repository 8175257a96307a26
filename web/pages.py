"""Datasets, a version and its parts, an example, two versions compared: an answer of ``storage`` by address."""

import re
from collections.abc import Sequence

from polars.exceptions import PolarsError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from schemas.errors import MissingDataset, StoreError, UsageError
from schemas.lineage import DatasetRef
from storage.questions.call_list import ORDERS, STATES, calls_of
from storage.questions.catalogue import catalogue
from storage.questions.changed_rows import KINDS, changed_rows
from storage.questions.dense import columns_of
from storage.questions.diff import Diff, diff
from storage.questions.figures import counted_once, remembered
from storage.questions.kin import call_views
from storage.questions.lineage import Lineage, collapsed, lineage, path_between
from storage.questions.loss_views import RowLosses
from storage.questions.neighbors import neighbors
from storage.questions.pasted import MOST_CHARACTERS, Pasted, pasted
from storage.questions.recorded_recipe import recipe_yaml, recorded_recipe
from storage.questions.samples import Sample, kept_samples
from storage.questions.show import show, tokens_of
from storage.questions.trace import trace
from storage.questions.views import CallView, Histogram, View
from storage.questions.words import named as named_step
from storage.questions.words import step_view
from storage.reports.card import card
from storage.reports.report import html as report_html
from storage.reports.report import report_of
from storage.seek import Reader
from tasks.leaderboard import Change, changes
from web import asked
from web.frame import Frame, as_json, attachment
from web.links import Links
from web.markdown import markdown

#: Histograms that a version's page draws unless it is asked for all: those of the latest steps.
PLOTS = 24
#: Lines of the front page and of the list of all versions.
PER_PAGE = 200
#: More words or characters than that, or a line break, in the search box are a pasted text.
MOST_WORDS, MOST_TYPED = 8, 200
_KEY = re.compile(r"(?:[0-9a-f]{2}){8,64}")
_ID = re.compile(r"#?[0-9a-fA-F]{6,32}")


class Compared(View):
    """The compare page: what can be compared, and the difference once two were chosen."""

    choices: tuple[str, ...]
    diff: Diff | None
    evaluation: tuple[Change, ...] = ()  # of models trained on both, measured alike


class CardPage(View):
    """The dataset card as it would be published."""

    ref: str
    text: str


class PastedPage(View):
    """What was found of a pasted text; None before one was given."""

    found: Pasted | None


class CallPage(View):
    """One call of a step, word for word."""

    ref: str
    says: str
    call: CallView


class Pages:
    """Pages of one store. Every method takes a request and gives a response; errors become pages in ``web.app``."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.store = frame.store

    def datasets(self, request: Request) -> Response:
        """Tags with their newest versions."""
        return self._catalogue(request, every=False, title="Datasets")

    def versions(self, request: Request) -> Response:
        """Every version, tagged or not."""
        return self._catalogue(request, every=True, title="All versions")

    def _catalogue(self, request: Request, *, every: bool, title: str) -> Response:
        search = asked.text(request.query_params, "q")
        listed = catalogue(self.store, every_version=every)
        if search:
            rows = [row for row in listed.rows if _mentions(row.model_dump(), search)]
            listed = listed.model_copy(update={"rows": tuple(rows)})
        here = "versions" if every else "datasets"
        start, total = asked.count(request.query_params, "start", 0), len(listed.rows)
        if not request.url.path.endswith(".json"):
            listed = listed.model_copy(update={"rows": listed.rows[start : start + PER_PAGE]})
        after = start + PER_PAGE if start + PER_PAGE < total else None
        twin = Links("").asked("/versions.json" if every else "/datasets.json", q=search)
        return self.frame.answer(
            request,
            listed,
            "datasets.html",
            title=title,
            every=every,
            search=search or "",
            here=here,
            twin=twin,
            start=start,
            total=total,
            after=after,
        )

    def version(self, request: Request) -> Response:
        """A version; a bare tag leads to its newest version, so that an address never changes its meaning."""
        named, is_json = asked.twin(request.path_params["version"])
        address = self.frame.address(named)
        if address != named and not is_json:
            return RedirectResponse(Links(address).version(address), 303)
        page = show(self.store, address)
        if is_json:
            return as_json(page)
        links = Links(address)
        graph = collapsed(lineage(self.store, self.store.resolve(address), most=60))

        def bin_link(one: Histogram, i: int, fate: str) -> str | None:
            if one.judged:
                return _judged_bin(links, one, i, fate)
            key = self._keys(one.ref).get(one.name)
            low, high = _edges(one.edges, i)
            return links.rows(one.ref, **{f"min.{key}": low, f"max.{key}": high, "order": f"-{key}"}) if key else None

        def loss_link(one: RowLosses, i: int) -> str:
            low, high = _edges(one.edges, i)
            where = {"min.losses.after": low, "max.losses.after": high, "order": "-losses.after"}
            return links.rows(one.ref, **where)

        return self.frame.html(
            "version.html",
            links,
            page=page,
            graph=graph,
            bin_link=bin_link,
            plots=page.histograms if request.query_params.get("scores") else page.histograms[-PLOTS:],
            loss_link=loss_link,
            samples=self._samples(address) if page.rows else (),
            recipe=recipe_yaml(page.recipe),
            tokens=tokens_of(self.store.describe(DatasetRef.parse(page.ref))),
            title=address,
            about=address,
            tab="overview",
            twin=f"{links.version(address)}.json",
        )

    def _keys(self, named: str) -> dict[str, str]:
        """Under which key rows are found by each score of a ranking; none for scores that belong to no member."""
        reader, ref = Reader(self.store), DatasetRef.parse(named)
        try:
            found = remembered(reader, reader.manifest(ref), "columns", lambda: columns_of(reader, ref))
        except (StoreError, OSError, PolarsError):
            return {}
        return {column.name: column.key for column in found if column.ref == named and column.part == "scores"}

    def _samples(self, address: str) -> tuple[Sample, ...]:
        """A few members to read, remembered; none where they cannot be read: the page names the damage."""
        reader = Reader(self.store)
        manifest = reader.manifest(self.store.resolve(address))
        try:
            return counted_once(reader, manifest, "samples", lambda: kept_samples(self.store, manifest.ref, 3))
        except (StoreError, OSError, PolarsError):
            return ()

    def graph(self, request: Request) -> Response:
        """The versions around one: so many steps up and down, or the way from another version to it."""
        named, is_json = asked.twin(request.path_params["version"])
        given = request.query_params
        address = self.frame.address(named)
        ref = self.store.resolve(address)
        start = asked.text(given, "from")
        up, down = (asked.count(given, name, 99) for name in ("up", "down"))
        if start is not None:
            found = path_between(self.store, self.store.resolve(start), ref)
        else:
            found = lineage(self.store, ref, up=up if up < 99 else None, down=down if down < 99 else None)
        found = collapsed(found)
        if is_json:
            return as_json(found)
        return self._about(
            request, found, "graph.html", address, "graph", title=f"Graph of {address}", up=up, down=down, start=start
        )

    def card(self, request: Request) -> Response:
        """The dataset card: to read, or with ``?download=1`` as a file to keep; ``?download=recipe`` is what made it."""
        named, is_json = asked.twin(request.path_params["version"])
        if request.query_params.get("download") == "recipe":
            recipe = recipe_yaml(recorded_recipe(self.store, self.frame.address(named)))
            return attachment(recipe or "", "recipe.yaml", "text/yaml; charset=utf-8")
        text = card(show(self.store, named))
        if request.query_params.get("download"):
            return attachment(text, "README.md", "text/markdown; charset=utf-8")
        page = CardPage(ref=str(self.store.resolve(named)), text=text)
        if is_json:
            return as_json(page)
        address = self.frame.address(named)
        read = {"title": f"Card of {address}", "rendered": markdown(text)}
        return self._about(request, page, "card.html", address, "card", **read)

    def report(self, request: Request) -> Response:
        """The report as a file to keep."""
        named = request.path_params["version"]
        return attachment(report_html(report_of(self.store, named)), "report.html", "text/html; charset=utf-8")

    def example(self, request: Request) -> Response:
        """Why one example is in or out."""
        named, is_json = asked.twin(request.path_params["example"])
        given = request.query_params
        found = trace(self.store, named, within=given.get("in") or None)
        if is_json:
            return as_json(found)
        within = found.tag or found.within or ""
        return self.frame.html(
            "example.html",
            Links(within),
            found=found,
            full=bool(given.get("full")),
            raw=bool(given.get("raw")),
            title=f"Example {found.example.id[:12]}",
            about=within,
            twin=f"/e/{found.example.id}.json?in={Links('').asked('', i=within)[3:]}",
        )

    def call(self, request: Request) -> Response:
        """One LLM call of a step: the request as it was sent, the reply as it came. Without a key: the calls of a version."""
        named, is_json = asked.twin(request.path_params["version"])
        key = asked.text(request.query_params, "key") or ""
        if not key:
            return self._calls(request, named, is_json)
        if not _KEY.fullmatch(key):
            raise UsageError(f"{key[:80]!r} is no key of a call: hexadecimal digits, as evidence shows them")
        ref = self.store.resolve(named)
        found = call_views(Reader(self.store), ref, [bytes.fromhex(key)])
        if not found:
            raise MissingDataset(f"{ref} made no call {key[:12]}; an earlier step may have, or its calls were not kept")
        step = step_view(self.store.describe(ref))
        page = CallPage(ref=str(ref), says=named_step(step.stage, step.method), call=found[0])
        if is_json:
            return as_json(page)
        address = self.frame.address(named)
        within = asked.text(request.query_params, "in")
        about = self.frame.address(within) if within else address
        twin = Links("").of("call", f"{address}.json", key=key)
        return self.frame.html(
            "call.html", Links(about), page=page, title=f"Call {key[:12]}", about=about, tab="calls", twin=twin
        )

    def _calls(self, request: Request, named: str, is_json: bool) -> Response:
        given = request.query_params
        page = calls_of(
            self.store,
            named,
            step=asked.text(given, "step"),
            model=asked.text(given, "model"),
            state=asked.one_of(given, "state", STATES) if given.get("state") else None,  # type: ignore[arg-type]
            order=asked.one_of(given, "order", ORDERS),
            start=asked.count(given, "start", 0),
        )
        if is_json:
            return as_json(page)
        address = self.frame.address(named)
        return self._about(request, page, "calls.html", address, "calls", title=f"Calls of {address}")

    def near(self, request: Request) -> Response:
        """What reads like an example."""
        named, is_json = asked.twin(request.path_params["example"])
        within = request.query_params.get("in") or None
        if within is None:
            found_in = trace(self.store, named)
            within = found_in.tag or found_in.within or found_in.example.home
        found = neighbors(self.store, named, within)
        if is_json:
            return as_json(found)
        return self.frame.html(
            "near.html", Links(within), page=found, title=f"Near {found.id[:12]}", about=within, twin=None
        )

    def compare(self, request: Request) -> Response:
        """Two versions side by side; with ``rows=removed`` and the like, all rows behind one of its figures."""
        before, after = (asked.text(request.query_params, name) for name in ("a", "b"))
        if before and after and request.query_params.get("rows"):
            which = asked.one_of(request.query_params, "rows", KINDS)
            start = asked.count(request.query_params, "start", 0)
            some = changed_rows(self.store, before, after, which, start=start)  # type: ignore[arg-type]
            title = f"{which.capitalize()} between {before} and {after}"
            return self.frame.answer(request, some, "changed.html", title=title, a=before, b=after, here="compare")
        tags = [tag for newest in self.store.tags() for tag in self.store.tag_history(newest.name)]
        choices = tuple(
            f"{tag.name}@v{tag.number}" for tag in sorted(tags, key=lambda tag: tag.created_at, reverse=True)
        )
        found = Compared(choices=choices, diff=None)
        if before and after:
            told = diff(self.store, before, after)
            measured = self._measured(told)
            found = Compared(choices=choices, diff=told, evaluation=measured)
        return self.frame.answer(
            request, found, "compare.html", title="Compare", a=before, b=after, here="compare", within=after or ""
        )

    def _measured(self, told: Diff) -> tuple[Change, ...]:
        """What training on one instead of the other did; nothing where that cannot be read."""
        try:
            return changes(self.store, DatasetRef.parse(told.before), DatasetRef.parse(told.after))
        except (StoreError, OSError, PolarsError):
            return ()

    def find(self, request: Request) -> Response:
        """From what was typed to its page: an id, its beginning, a tag, a ref; anything else is looked for by name."""
        text = (asked.text(request.query_params, "q", MOST_CHARACTERS) or "").strip()
        if not text:
            return RedirectResponse("/", 303)
        if "\n" in text or len(text.split()) > MOST_WORDS or len(text) > MOST_TYPED:
            return RedirectResponse(Links("").asked("/pasted", text=text), 303)
        if _ID.fullmatch(text):
            return RedirectResponse(Links("").example(text.lower().removeprefix("#")), 303)
        newest = max(self.store.tags(), key=lambda tag: tag.created_at, default=None)
        if " " in text and newest is not None:  # words are looked for in the newest dataset
            return RedirectResponse(Links("").of("rows", f"{newest.name}@v{newest.number}", text=text), 303)
        names = [row.name for row in catalogue(self.store).rows if text.lower() in row.name.lower()]
        if text not in names and "@" not in text and len(names) != 1:
            return RedirectResponse(Links("").asked("/datasets", q=text), 303)
        return RedirectResponse(Links("").version(self.frame.address(text if "@" in text else names[0])), 303)

    def pasted(self, request: Request) -> Response:
        """Where a pasted text comes from; without one, a field to paste it into."""
        text = (asked.text(request.query_params, "text", MOST_CHARACTERS) or "").strip()
        found = PastedPage(found=pasted(self.store, text) if text else None)
        return self.frame.answer(
            request, found, "pasted.html", title="Where a text comes from", text=text, most=MOST_CHARACTERS
        )

    def _about(
        self, request: Request, model: View | Lineage, template: str, address: str, tab: str, **more: object
    ) -> Response:
        links = Links(address)
        query = f"?{request.url.query}" if request.url.query else ""
        return self.frame.html(
            template, links, page=model, about=address, tab=tab, twin=f"{request.url.path}.json{query}", **more
        )


def _judged_bin(links: Links, one: Histogram, i: int, fate: str) -> str:
    """The rows behind one bar of a histogram of verdicts."""
    low, high = _edges(one.edges, i)
    role = one.name.removeprefix("score of ") if one.name.startswith("score of ") else None
    return links.rows(one.ref, fate, role=role, order="score", **{"min.score": low, "max.score": high})


def _edges(edges: Sequence[float], i: int) -> tuple[str, str]:
    """The bounds of a bar, wide enough for scores in single precision."""
    wide = (edges[-1] - edges[0]) * 1e-7
    low, high = edges[i] - (wide if i == 0 else 0.0), edges[i + 1] + (wide if i == len(edges) - 2 else 0.0)
    return f"{low:.9g}", f"{high:.9g}"


def _mentions(value: object, text: str) -> bool:
    return text.lower() in " ".join(str(value).lower().split())
