"""ls, show, trace, lineage, diff, query, report, methods, runs: look, change nothing."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json, say
from cli.paint import tell
from cli.store_read import looked_at

Dataset = Annotated[str, typer.Argument(help="A tag (demo, demo@v2) or a ref (filter@0123…).", show_default=False)]


def ls(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, all_: Annotated[
    bool, typer.Option("--all", help="Every version, not only the tagged ones.")] = False) -> None:  # fmt: skip
    """Datasets by name, with size, sources, gate status and when they were made; --all lists every version."""
    from cli import render
    from storage.questions.catalogue import catalogue
    from storage.store import Store

    listed = catalogue(Store.open(looked_at(store), create=False), every_version=all_)
    out_json(listed) if as_json else out(render.catalogue_text(listed))


def show(
    dataset: Dataset,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    recipe: Annotated[bool, typer.Option("--recipe", help="Only the recipe that made it, as YAML.")] = False,
) -> None:
    """A version: counts per stage with reasons, scores, sources, contamination, mixture, models, cost, training runs."""
    from cli import render
    from storage.questions.show import show as page_of
    from storage.store import Store

    opened = Store.open(looked_at(store), create=False)
    if recipe:
        from storage.questions.recorded_recipe import recipe_yaml, recorded_recipe

        found = recorded_recipe(opened, dataset)
        out_json(found) if as_json else out((recipe_yaml(found) or "").rstrip())
        return
    page = page_of(opened, dataset)
    if as_json:
        out_json(page)
        return
    from cli.mixing import measured_text

    tell(render.show_text(page))
    if measured := measured_text(opened, opened.resolve(dataset)):
        tell(measured)


def trace(
    example: Annotated[
        str | None, typer.Argument(help="An example's id, or its first six or more digits.", show_default=False)
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", help="Instead of an id: a turn, a whole example or a part of one; - reads it from standard input."
        ),
    ] = None,
    within: Annotated[str | None, typer.Option("--in", help="Only this dataset's history.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Why an example is in or out: its verdicts with score and threshold, ancestors, prompts, calls, cost.

    With --text: which examples are that text, hold it, share its wording or read like it, dropped ones too, each with what
    became of it and the id to trace next.
    """
    from schemas.errors import UsageError
    from storage.questions.trace import trace as trace_of
    from storage.reading import ReadingStore

    if (example is None) == (text is None):
        raise UsageError("trace takes an example's id, or --text with what it says (--text - reads standard input)")
    opened = ReadingStore.over(looked_at(store))
    if example is None:
        from cli.pasted_text import asked_text, looking, pasted_text
        from storage.questions.pasted import pasted

        answer = pasted(opened, asked_text(text or ""), within=within, seconds=None, told=looking())
        out_json(answer) if as_json else tell(pasted_text(answer))
        return
    found = trace_of(opened, example, within=within)
    if as_json:
        out_json(found)
        return
    from cli.trace_text import trace_text  # not all of cli.render: DuckDB and NumPy would come with it

    tell(trace_text(found))


def lineage(
    dataset: Dataset,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    dot: Annotated[bool, typer.Option("--dot", help="As Graphviz.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As Mermaid.")] = False,
    up: Annotated[int | None, typer.Option(min=0, help="At most so many steps before it.")] = None,
    down: Annotated[int | None, typer.Option(min=0, help="At most so many steps after it.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Only the way from this version to it.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Versions alike one by one, not as one line.")] = False,
) -> None:
    """The graph of versions around a dataset, with what each step kept and dropped."""
    from cli import graph as draw
    from storage.questions.lineage import collapsed, path_between
    from storage.questions.lineage import lineage as graph_of
    from storage.store import Store

    opened = Store.open(looked_at(store), create=False)
    if start is not None:
        graph = path_between(opened, opened.resolve(start), opened.resolve(dataset))
    else:
        graph = graph_of(opened, dataset, up=up, down=down)
    graph = graph if whole or as_json else collapsed(graph)
    if as_json:
        out_json(graph)
    elif dot or mermaid:
        out(draw.lineage_dot(graph) if dot else draw.lineage_mermaid(graph))
    else:
        tell(draw.lineage_text(graph))


def diff(
    before: Dataset,
    after: Dataset,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    rows: Annotated[
        str | None, typer.Option("--rows", help="Instead the rows themselves: added, removed, edited or common.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, max=500, help="With --rows: at most so many.")] = 100,
    start: Annotated[int, typer.Option("--start", min=0, help="With --rows: from this one on.")] = 0,
) -> None:
    """What changed between two versions: rows added, removed, edited with reasons; shifts; evaluation."""
    from cli import render
    from cli.ranking import changes_text
    from storage.questions.diff import diff as diff_of
    from storage.store import Store
    from tasks.leaderboard import changes

    opened = Store.open(looked_at(store), create=False)
    if rows is not None:
        from storage.questions.changed_rows import changed_rows

        page = changed_rows(opened, before, after, rows, start=start, limit=most)  # type: ignore[arg-type]
        out_json(page) if as_json else out(render.changed_text(page))
        return
    found = diff_of(opened, before, after)
    measured = changes(opened, opened.resolve(before), opened.resolve(after))
    if as_json:
        out_json({**found.model_dump(mode="json"), "evaluation": measured})
        return
    tell(render.diff_text(found))
    tell(changes_text(measured))


def query(
    dataset: Dataset,
    sql: Annotated[str, typer.Argument(help="One SELECT over examples, verdicts, scores, calls, refused, train.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    rows: Annotated[int, typer.Option("--rows", min=1, help="At most so many rows.")] = 1000,
) -> None:
    """SQL over a version's tables; reads only, with external access off."""
    from cli import render
    from storage.questions.query import query as ask
    from storage.store import Store

    answer = ask(Store.open(looked_at(store), create=False), dataset, sql, max_rows=rows)
    out_json(answer) if as_json else out(render.table_text(answer))


def report(
    dataset: Dataset,
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("report.html"),
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """One self-contained HTML page: funnel, reasons, scores, contamination, mixture, training curve, cost."""
    from storage.reports.report import write_report
    from storage.store import Store

    write_report(Store.open(looked_at(store), create=False), dataset, to)
    out_json({"report": str(to)}) if as_json else out(str(to))


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, for its fields and its paper.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Every method of every stage with its fields; a new file in methods/<stage>/ appears here by itself."""
    from cli.methods import described, methods_text

    listed = described(name)
    out_json(listed) if as_json else out(methods_text(listed, whole=name is not None))


def runs(
    run_id: Annotated[
        str | None, typer.Argument(help="One run: its events, what it spent, what its calls met.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Runs, newest first; one whose process is gone is marked crashed. Of one run also spending, rate limits, errors, waits."""
    from cli import render
    from storage import runs as log

    store = looked_at(store)
    if run_id:
        from cli.run_text import spending_text
        from storage.questions.progress import run_page
        from storage.store import Store

        page = run_page(Store.open(store, create=False), run_id)
        run, events = page.run, list(log.events(store, page.run.run_id))
        if as_json:
            out_json({**run.model_dump(), "events": events, "spending": page.spending})
        else:
            out(render.columns_text(events, ["at", "kind", "stage", "what", "ref", "seconds", "note"]))
            out("\n" + spending_text(page.spending, run.run_id))
            say(f"{run.run_id}: {run.status}" + (f", {run.error}" if run.error else ""))
        return
    listed = [run.model_dump(mode="json") for run in log.runs(store)]
    columns = ["run_id", "name", "what", "status", "started_at", "dataset", "error"]
    out_json(listed) if as_json else out(render.columns_text(listed, columns))
