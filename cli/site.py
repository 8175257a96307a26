"""site: the browser's pages of one dataset as plain files. what-if and blast: its questions in the terminal."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json, piped, safe, say
from cli.looking import Dataset
from cli.store_read import looked_at


def site(
    dataset: Dataset,
    to: Annotated[Path, typer.Option("--out", help="Folder to write; new, empty or an older site.")] = Path("site"),
    examples: Annotated[
        int, typer.Option(min=0, help="Kept rows with a page of their own, and as many dropped ones.")
    ] = 500,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read and hash every byte of its versions for their receipts.")
    ] = True,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """The browser's pages of one dataset as plain files: put them on any web server, or open them from a disk.

    With the receipt of each of its versions: digests of all files, what it was made from, method and prompts.
    """
    from uvicorn.importer import import_from_string

    publish = import_from_string("web.publish:publish_site")  # by name: the two front ends never import each other

    def told(done: int, total: int) -> None:
        if done % 100 == 0:
            say(f"{done:,} of {total:,} pages")

    made = publish(looked_at(store), dataset, to, examples=examples, verify=verify, progress=told)
    if as_json:
        out_json({"index": str(made.index), "files": made.files, "examples": made.examples, "left_out": made.left_out})
        return
    out(str(made.index))
    say(f"{made.files:,} files, {made.examples:,} examples with pages of their own" + (
        f"; {made.left_out:,} kept rows have none (--examples raises the limit)" if made.left_out else ""))  # fmt: skip


def what_if(
    dataset: Dataset,
    move: Annotated[
        list[str],
        typer.Option("--move", metavar="SCORE=VALUE", help="A threshold and where to put it; may be repeated."),
    ] = [],
    bound: Annotated[
        list[str],
        typer.Option(
            "--bound", metavar="SCORE=LOW:HIGH", help="Keep a stored score in a range; either end may be left out."
        ),
    ] = [],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """What if a threshold had been another one: counts, composition and rows from stored scores; no step runs."""
    from cli.plain import line, table
    from schemas.errors import UsageError
    from storage.questions.what_if import what_if as ask
    from storage.questions.words import number, share
    from storage.store import Store

    moves: dict[str, float] = {}
    for one in move:
        key, equals, value = one.rpartition("=")
        try:
            moves[key] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"--move {safe(one)[:80]} is not SCORE=VALUE, for example clear=0.3")
    bounds = dict(map(_bound, bound))
    found = ask(Store.open(looked_at(store), create=False), dataset, moves, bounds)
    if as_json:
        out_json(found)
        return
    out(line(found.says) + ".")
    if not moves and not bounds:
        figures = ((t.threshold, t.low, t.high, t.scored) for t in found.thresholds)
        listed = [(t.key, t.rule, *map(number, told)) for t, told in zip(found.thresholds, figures, strict=True)]
        head = ("score", "rule", "threshold", "lowest", "highest", "rows")
        out(table(head, listed, (2, 3, 4, 5)) if listed else "nothing can be moved")
        if found.columns:
            out(f"scores that --bound can hold: {', '.join(map(line, found.columns))}")
    else:
        moved = [
            (
                m.key,
                number(m.to),
                number(m.kept_before),
                number(m.kept_after),
                number(m.newly_kept),
                number(m.newly_dropped),
            )
            for m in found.moves
        ]
        if moved:
            out(
                table(
                    ("score", "moved to", "kept", "would keep", "newly kept", "newly dropped"), moved, (1, 2, 3, 4, 5)
                )
            )
        held = [(b.key, _end(b.low), _end(b.high), number(b.drops), number(b.unscored)) for b in found.bounds]
        if held:
            out(table(("score", "from", "up to", "rows outside", "without it"), held, (1, 2, 3, 4)))
        then = sum(p.after for p in found.parts)
        parts = [
            (
                p.source,
                number(p.before),
                share(p.before, found.before),
                number(p.after),
                share(p.after, then),
                number(p.may_come),
            )
            for p in found.parts
        ]
        out(table(("source", "now", "share", "would stay", "share", "may come back"), parts, (1, 2, 3, 4, 5)))
        for title, some in (("newly kept", found.newly_kept), ("newly dropped", found.newly_dropped)):
            if some:
                lines = [
                    (
                        row.id[:12],
                        row.step.method if row.step else ", ".join(row.scores),
                        number(_score(row)),
                        row.prompt,
                    )
                    for row in some
                ]
                out(
                    f"\n{title}, nearest first:\n"
                    + table(("example", "by", "score", "begins"), lines, (2,), whole=(0,))
                )
    for one in found.fixed:
        say(f"cannot be moved: {safe(one.rule)} of {one.ref} ({one.why})")
    say(found.note)


def _score(row: Any) -> float | None:
    """What a line was judged by: its verdict's score, or the one score that was asked for."""
    return row.verdict.score if row.verdict else next(iter(row.scores.values()), None)


def _end(value: float | None) -> str:
    from storage.questions.words import number

    return "" if value is None else number(value)


def _bound(text: str) -> tuple[str, tuple[float | None, float | None]]:
    """``ifd=0.2:0.8`` as a score and its range; ``UsageError`` for what is none."""
    from schemas.errors import UsageError

    key, equals, ends = text.rpartition("=")
    low, colon, high = ends.partition(":")
    try:
        if not (key and equals and colon and (low or high)):
            raise ValueError
        return key, (float(low) if low else None, float(high) if high else None)
    except ValueError:
        raise UsageError(f"--bound {safe(text)[:80]} is not SCORE=LOW:HIGH, for example clear=0.3:0.9") from None


def blast(
    kind: Annotated[
        str | None, typer.Argument(help="example, source, license, model, prompt or call; left out, causes are listed.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="Its id or name.")] = None,
    recall: Annotated[
        Path | None, typer.Option("--recall", help="Write every affected example to a .csv or .jsonl file.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Blast radius: every example of every version that came from a seed, source, licence, model, prompt or call."""
    from cli.plain import line, table
    from schemas.errors import UsageError
    from storage.questions.blast import KINDS, Kind, causes, recall_list
    from storage.questions.blast import blast as ask
    from storage.questions.words import number, share
    from storage.reports.spreadsheets import csv_lines, jsonl_lines
    from storage.store import Store

    opened = Store.open(looked_at(store), create=False)
    chosen: Kind | None = next((one for one in KINDS if one == kind), None)
    if kind is not None and chosen is None:
        raise UsageError(f"a cause is one of {', '.join(KINDS)}, not {safe(kind)[:40]!r}")
    if chosen is None or name is None:
        listed = [one for one in causes(opened) if chosen in (None, one.kind)]
        out_json(listed) if as_json else out(
            table(("kind", "name", "says"), [(c.kind, c.name, c.says) for c in listed], ())
        )
        return
    found = ask(opened, chosen, name)
    if recall is not None:
        told = recall_list(opened, chosen, name)
        as_csv = recall.suffix == ".csv"
        if not as_csv and recall.suffix != ".jsonl":
            raise UsageError(f"--recall {recall} ends in neither .csv nor .jsonl")
        lines = csv_lines(told, ("id", "source", "license", "made_by", "direct", "in")) if as_csv else jsonl_lines(told)
        with recall.open("w", encoding="utf-8", newline="", errors="replace") as file:
            file.writelines(lines)
        say(f"recall list in {recall}")
    if as_json:
        out_json(found)
        return
    out(line(found.says) + ".")
    hits = [
        (", ".join(hit.tags) or hit.ref, hit.stage, number(hit.rows), number(hit.of), share(hit.rows, hit.of))
        for hit in found.versions[: None if piped() else 40]
    ]
    if hits:
        out(table(("version", "step", "affected", "of", "share"), hits, (2, 3, 4), whole=(0,)))
    if found.judged_by:
        out(f"it also judged in {', '.join(found.judged_by)}")
