"""What if a threshold moved, and what came from a cause: questions over stored figures, answered without running a step."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from storage.questions.blast import KINDS, Blast, Cause, blast, causes, recall_list
from storage.questions.movable import Threshold
from storage.questions.views import View
from storage.questions.what_if import SHOWN, WhatIf, what_if
from storage.reports.spreadsheets import csv_lines, jsonl_lines
from web import asked
from web.frame import Frame, as_json, streamed
from web.links import Links


def grouped(thresholds: Sequence[Threshold]) -> list[list[Threshold]]:
    """Thresholds that cut the same rows together, in the order of the steps."""
    found: dict[str, list[Threshold]] = {}
    for one in thresholds:
        found.setdefault(one.group, []).append(one)
    return list(found.values())


def _asked(page: WhatIf) -> dict[str, float]:
    """The question that a page answers, as parameters of an address."""
    bounds = {one.key: (one.low, one.high) for one in page.bounds}
    return {f"t.{move.key}": move.to for move in page.moves} | asked.range_params(bounds)


class BlastPage(View):
    """What can be picked, and what came from it once something was."""

    causes: tuple[Cause, ...]
    found: Blast | None


class QuestionPages:
    """See ``Pages``."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.store = frame.store

    def what_if(self, request: Request) -> Response:
        """Thresholds of a version, moved by the address; ``rows=0`` leaves out the rows, for counts while a slider moves."""
        named, is_json = asked.twin(request.path_params["version"])
        given = request.query_params
        address = self.frame.address(named)
        bounds = asked.ranges(given)
        if (new := asked.text(given, "add")) and new not in bounds:
            bounds[new] = (None, None)  # a figure to set bounds in
        shown = min(asked.count(given, "rows", SHOWN), 100)
        page = what_if(self.store, address, asked.moves(given), bounds, shown=shown)
        if is_json:
            return as_json(page)
        links = Links(address)
        moved = {move.key: move for move in page.moves}
        return self.frame.html(
            "what_if.html",
            links,
            page=page,
            moved=moved,
            groups=grouped(page.thresholds),
            title=f"What if: {address}",
            about=address,
            tab="what-if",
            twin=links.of("what-if", f"{address}.json", **_asked(page)),
        )

    def blast(self, request: Request) -> Response:
        """Pick a cause, see every version that holds something of it; ``/blast.csv`` and ``.jsonl`` are the recall list."""
        given = request.query_params
        kind, name = asked.one_of(given, "kind", KINDS), asked.text(given, "name")
        path = request.url.path
        if path.endswith((".csv", ".jsonl")) and name:
            told = recall_list(self.store, kind, name)  # type: ignore[arg-type]
            if path.endswith(".csv"):
                columns = ("id", "source", "license", "made_by", "direct", "in")
                return streamed(csv_lines(told, columns), "recall.csv", "text/csv; charset=utf-8")
            return streamed(jsonl_lines(told), "recall.jsonl", "application/x-ndjson; charset=utf-8")
        within = asked.text(given, "in")
        found = (
            blast(self.store, kind, name, within=within, start=asked.count(given, "start", 0))  # type: ignore[arg-type]
            if name
            else None
        )
        page = BlastPage(causes=causes(self.store), found=found)
        return self.frame.answer(
            request, page, "blast.html", title="Blast radius", here="blast", kind=kind, name=name or "",
            within=found.within or "" if found else "",
        )  # fmt: skip
