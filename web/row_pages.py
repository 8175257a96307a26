"""Rows behind a number, as a page and as a file, and the SQL box over a version's tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import StoreError, UsageError
from storage.questions.query import Answer, query, views_of
from storage.questions.rows import RowsPage, rows
from storage.questions.views import View
from storage.questions.words import evidence_words
from storage.reports.spreadsheets import csv_lines, jsonl_lines
from web import asked
from web.frame import Frame, as_json, streamed
from web.links import Links

FATES = ("member", "keep", "reject", "edit", "quarantine", "dropped", "refused")
PER_PAGE = 25
_COLUMNS = ("position", "id", "source", "license", "synthetic_depth", "prompt", "answer")
#: Rows that a file of rows holds at most.
MOST_EXPORTED = 10_000
#: What one question of the SQL box may take.
SQL_SECONDS, SQL_ROWS = 10.0, 500

#: Questions to start from; each uses only views that any published version has.
STARTERS = (
    ("Rows by source", "select source, count(*) as examples from examples group by source order by examples desc"),
    (
        "Longest answers",
        "select id, length(last_turn) as characters, left(last_turn, 80) as begins from examples order by characters desc limit 20",
    ),
    (
        "Answers that refuse",
        "select id, first_turn, last_turn from examples where last_turn ilike '%as an ai%' limit 50",
    ),
    ("Columns", "describe examples"),
)

#: Further ones for a step that drops repeats: which examples stand for how many, and how many clusters have which size.
CLUSTERS = (
    (
        "Largest clusters",
        "select evidence->>'repeats' as id, count(*) as dropped, min((evidence->>'similarity')::double) as least_alike "
        "from verdicts where fate = 'reject' group by 1 order by 2 desc limit 50",
    ),
    (
        "Clusters by size",
        "select dropped + 1 as examples, count(*) as clusters from (select evidence->>'repeats' as kept, count(*) as dropped "
        "from verdicts where fate = 'reject' group by 1) group by 1 order by 1",
    ),
)


class SqlPage(View):
    """A question and its answer, or what was wrong with it."""

    ref: str
    sql: str
    tables: tuple[str, ...]
    answer: Answer | None = None
    problem: str | None = None


class RowPages:
    """See ``Pages``."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.store = frame.store

    def rows(self, request: Request) -> Response:
        """Rows behind a number; ``.json`` is the page as a value, ``.csv`` and ``.jsonl`` are files of rows."""
        named, is_json = asked.twin(request.path_params["version"])
        kind = next((k for k in ("csv", "jsonl") if named.endswith(f".{k}")), None)
        named = named.removesuffix(f".{kind}") if kind else named
        given = request.query_params
        fate = asked.one_of(given, "fate", FATES)
        where = asked.ranges(given)
        question: dict[str, Any] = {
            "fate": fate,
            "role": asked.text(given, "role"),
            "rule": asked.text(given, "rule"),
            "source": asked.text(given, "source"),
            "license": asked.text(given, "license"),
            "text": asked.text(given, "text"),
            "order": asked.text(given, "order") or "position",
            "where": where,
        }
        start, limit = asked.count(given, "start", 0), asked.count(given, "limit", PER_PAGE)
        if kind:
            return self._file(named, question, kind)
        page = rows(self.store, named, **question, start=start, limit=limit)
        if is_json:
            return as_json(page)
        within = asked.text(given, "in") or self.frame.address(named)
        manifest = self.store.describe(self.store.resolve(named))
        links = Links(within)
        bounds = asked.range_params(where)

        def again(**changed: Any) -> str:
            """The same question with something changed; a page starts at its beginning."""
            kept = {key: question[key] for key in ("role", "source", "license", "text", "order")} | bounds
            rule = changed.pop("rule", question["rule"])
            fate_ = changed.pop("fate", fate)
            return links.rows(named, fate_, rule, **{**kept, **changed})

        address = self.frame.address(named)
        cleared = {key: None for key in bounds} | {"rule": None}
        return self.frame.html(
            "rows.html",
            links,
            known=self._known(named),
            cleared=cleared,
            shown=_worth_a_column(page),
            clusters=CLUSTERS if manifest.ref.stage == "dedup" and fate == "reject" else (),
            page=page,
            manifest=manifest,
            named=named,
            within=within,
            again=again,
            bounds=bounds,
            title=f"Rows of {named}",
            about=address,
            tab="dropped" if fate == "dropped" else "rows",
            twin=again(start=start).replace("/rows/", "/rows/", 1).replace("?", ".json?", 1),
        )

    def _known(self, named: str) -> dict[str, list[str]]:
        """Sources and licences that a version and what it came from noted, to choose from; read from manifests alone."""
        ref = self.store.resolve(named)
        try:
            behind = self.store.upstream(ref)
        except StoreError:  # the page itself names what is damaged
            behind = [self.store.describe(ref)]
        noted = [manifest.summary.get("composition") for manifest in behind]
        rows = [row for table in noted if isinstance(table, list) for row in table if isinstance(row, Mapping)]
        found: dict[str, list[str]] = {}
        for name, key in (("sources", "source"), ("licenses", "license")):
            values = (str(row[key]) for row in rows if row.get(key) and row[key] != "unknown")
            found[name] = sorted(dict.fromkeys(values))[:200]
        return found

    def _file(self, named: str, question: dict[str, Any], kind: str) -> Response:
        if question["fate"] == "refused":
            raise UsageError("refused rows never became examples; their JSON is the page's twin (.json)")
        first = rows(self.store, named, **question, limit=500)
        names = (*_COLUMNS, "fate", "rule", "why", "margin")
        told = self._told(named, question, first)
        if kind == "csv":
            return streamed(csv_lines(told, [*names, *first.shown]), "rows.csv", "text/csv; charset=utf-8")
        return streamed(jsonl_lines(told), "rows.jsonl", "application/x-ndjson; charset=utf-8")

    def _told(self, named: str, question: dict[str, Any], page: RowsPage) -> Iterator[dict[str, Any]]:
        while True:
            for line in page.rows:
                told = {key: getattr(line, key) for key in _COLUMNS} | dict(line.scores)
                if line.verdict:
                    why = evidence_words(line.verdict.evidence)
                    told |= {
                        "fate": line.verdict.fate,
                        "rule": line.verdict.rule,
                        "why": why,
                        "margin": line.verdict.margin,
                    }
                yield told
            if page.next is None or page.next >= MOST_EXPORTED:
                return
            page = rows(self.store, named, **question, start=page.next, limit=500)

    def sql(self, request: Request) -> Response:
        """The SQL box: one SELECT over the version's views; a mistake is part of the page, not an error of it."""
        named, is_json = asked.twin(request.path_params["version"])
        kind = next((k for k in ("csv", "jsonl") if named.endswith(f".{k}")), None)
        ref = self.store.resolve(named.removesuffix(f".{kind}") if kind else named)
        sql = (request.query_params.get("q") or "")[:20_000].strip()
        tables: Sequence[str] = tuple(views_of(self.store, self.store.describe(ref)))
        answer: Answer | None = None
        problem = None
        if sql:
            try:
                answer = query(self.store, ref, sql, max_rows=SQL_ROWS, max_seconds=SQL_SECONDS)
            except UsageError as error:
                problem = str(error)
        if kind:
            if answer is None:
                raise UsageError(problem or "there is no question; write one SELECT after ?q=")
            told = (dict(zip(answer.columns, row, strict=False)) for row in answer.rows)
            if kind == "csv":
                return streamed(csv_lines(told, answer.columns), "answer.csv", "text/csv; charset=utf-8")
            return streamed(jsonl_lines(told), "answer.jsonl", "application/x-ndjson; charset=utf-8")
        page = SqlPage(ref=str(ref), sql=sql, tables=tuple(tables), answer=answer, problem=problem)
        if is_json:
            return as_json(page)
        address = self.frame.address(named)
        links = Links(address)
        return self.frame.html(
            "sql.html",
            links,
            page=page,
            title=f"SQL over {address}",
            about=address,
            tab="sql",
            starters=STARTERS + (CLUSTERS if ref.stage == "dedup" else ()),
            twin=links.of("sql", f"{address}.json", q=sql),
        )


def _worth_a_column(page: RowsPage) -> list[str]:
    """Scores that the question names, and those that any row of this page has: no column of blanks."""
    asked_for = {page.order.removeprefix("-"), *(one.key for one in page.where)}
    return [key for key in page.shown if key in asked_for or any(row.scores.get(key) is not None for row in page.rows)]
