"""Contamination for a terminal: tables of what was found, hits beside their items with the matched spans, and the asking."""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.prompt import Prompt
from rich.table import Table
from rich.text import Text

from cli.console import out, safe_lines
from cli.plain import block, line, table
from storage.packs.reviews import Hit, record
from storage.questions.words import counted, number
from storage.store import Store
from tasks.contamination import Check, Found
from tasks.reviewed import Precision
from tasks.self_test import SelfTest

_CONTEXT = 160  # characters shown before and after what matched
_SHORT = 900  # texts up to this length are shown whole


def check_text(found: Check) -> str:
    """``decontaminate check``."""
    head = f"{counted(found.flagged, 'example')} of {number(found.examples)} flagged ({percent(found.fraction)})"
    return f"{found_text(found.found)}\n{head}"


def found_text(found: Sequence[Found]) -> str:
    """What each method's rules found on each benchmark."""
    rows = [
        (one.method, f"{one.benchmark} v{one.version}", one.rule or "nothing", one.examples or "", one.items_hit or "",
         number(one.items), percent(one.share) if one.items_hit else "")
        for one in found
    ]  # fmt: skip
    return table(("method", "benchmark", "rule", "examples", "items hit", "of", "share"), rows, (3, 4, 5, 6))


def report_text(found: Sequence[Found], reviewed: Sequence[Precision]) -> str:
    """``decontaminate report``."""
    if not found:
        return "no decontaminate step is behind this version"
    rows = [
        (one.rule, one.benchmark, one.hits, one.reviewed, one.accepted,
         percent(one.precision) if one.precision is not None else "not reviewed",
         f"{percent(one.low)} to {percent(one.high)}" if one.reviewed else "")
        for one in reviewed
    ]  # fmt: skip
    head = ("rule", "benchmark", "hits", "reviewed", "accepted", "precision", "95 % interval")
    told = table(head, rows, (2, 3, 4, 5)) if rows else "no hit, so nothing to review"
    return f"{found_text(found)}\n\n{told}"


def self_test_text(result: SelfTest) -> str:
    """``decontaminate self-test``: one line per kind of leak, one column per method."""
    methods = list(dict.fromkeys(one.method for one in result.recall))
    rows = []
    for kind, group in groupby(sorted(result.recall, key=lambda r: _order(result, r.kind)), key=lambda r: r.kind):
        cells = {one.method: one for one in group}
        any_ = next(iter(cells.values()))
        told = [f"{cells[m].found}/{cells[m].planted}" if cells[m].planted else "" for m in methods]
        rows.append((kind, "" if any_.should_be_found else "beyond words", *told, any_.says))
    named = ", ".join(f"{name} {count}" for name, count in result.named.items())
    return (
        table(("planted", "", *methods, "what it is"), rows, range(2, 2 + len(methods)), whole=(0,))
        + f"\nof {counted(result.untouched, 'untouched example')} of yours, named (leaks that are there, or false flags): {named}"
        + f"\n{'passed: no whole item went unnoticed' if result.passed else 'FAILED: a whole item went unnoticed'}"
    )


def _order(result: SelfTest, kind: str) -> int:
    return [one.kind for one in result.recall].index(kind)


def percent(value: float) -> str:
    """A share as a percentage, a small one with two digits more.

    >>> percent(0.5), percent(0.00012)
    ('50.0%', '0.012%')
    """
    return f"{value:.1%}" if value >= 0.001 or not value else f"{value:.3%}"


def hit_line(hit: Hit) -> str:
    """A hit in two lines: what matched what, and the words."""
    score = "" if hit.score is None else f" {hit.score:.2f}"
    where = (
        f"{hit.example[:12]} ({line(hit.source)}) {line(hit.rule)}{score}: {line(hit.benchmark)} item {line(hit.item)}"
    )
    quote = line(str(hit.evidence.get("quote") or hit.text))
    return f"{where}\n  {quote[:150]}"


def side_by_side(hit: Hit, width: int = 120) -> str:
    """A hit beside its item as plain text, matched spans between ⟦ and ⟧."""
    ours, theirs = (_marked(text, spans) for text, spans in _sides(hit))
    said = hit.review
    told = (
        f"\n{said.verdict}ed by {line(said.who)} at {said.at[:16]}: {line(said.reason) or 'no reason given'}"
        if said
        else ""
    )
    return (
        f"{hit.key[:12]}  {hit_line(hit).splitlines()[0]}\n{line(hit.says)}\n"
        f"example, {hit.inside} turn {hit.turn}:\n{block(ours)}\nitem, {hit.field}:\n{block(theirs)}{told}"
    )


def review_in_turn(store: Store, hits: Sequence[Hit], who: str) -> None:
    """Show each hit and ask; every answer is durable before the next hit is shown."""
    console = Console()
    for place, hit in enumerate(hits, start=1):
        console.print()
        console.print(Text(f"{place} of {len(hits)}  {hit.key[:12]}  {line(hit.rule)}: {line(hit.says)}", style="bold"))
        console.print(_columns(hit))
        answer = Prompt.ask(
            "leak? [a]ccept, [r]eject as a false alarm, [s]kip, [q]uit", choices=["a", "r", "s", "q"], console=console
        )
        if answer == "q":
            break
        if answer in "ar":
            reason = Prompt.ask("why (may be empty)", default="", show_default=False, console=console)
            record(store, hit, "accept" if answer == "a" else "reject", who=who, reason=reason[:2000])
    else:
        out("no hit is left to review")


def _columns(hit: Hit) -> Table:
    score = "" if hit.score is None else f", {hit.score:.2f}"
    shown = Table(expand=True, show_lines=False)
    shown.add_column(Text(f"example {hit.example[:12]}, {line(hit.source)}, turn {hit.turn}{score}"), ratio=1)
    shown.add_column(Text(f"{line(hit.benchmark)} item {line(hit.item)}, {hit.field}"), ratio=1)
    shown.add_row(*(_highlighted(text, spans) for text, spans in _sides(hit)))
    return shown


def _sides(hit: Hit) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
    theirs = hit.item_text if hit.item_text is not None else "(the pack's text is not at hand)"
    return [_window(hit.text, hit.text_spans), _window(theirs, hit.item_spans)]


def _window(text: str, spans: tuple[tuple[int, int], ...]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The part of a long text around its spans, and the spans within it."""
    if len(text) <= _SHORT:
        return text, spans
    start = max(0, min((a for a, _ in spans), default=0) - _CONTEXT)
    end = min(len(text), max((b for _, b in spans), default=_SHORT) + _CONTEXT, start + 4 * _SHORT)
    before, after = "… " if start else "", " …" if end < len(text) else ""
    moved = tuple((a - start + len(before), min(b, end) - start + len(before)) for a, b in spans if a < end)
    return before + text[start:end] + after, moved


def _pieces(text: str, spans: tuple[tuple[int, int], ...]) -> list[tuple[str, bool]]:
    """The text cut where spans begin and end, harmless to a terminal; overlapping spans count once."""
    pieces, at = [], 0
    for start, end in spans:
        if end <= at:
            continue
        pieces += [(text[at : max(start, at)], False), (text[max(start, at) : end], True)]
        at = end
    return [(safe_lines(piece), marked) for piece, marked in [*pieces, (text[at:], False)] if piece]


def _highlighted(text: str, spans: tuple[tuple[int, int], ...]) -> Text:
    told = Text()
    for piece, marked in _pieces(text, spans):
        told.append(piece, style="black on yellow" if marked else "")
    return told


def _marked(text: str, spans: tuple[tuple[int, int], ...]) -> str:
    return "".join(f"⟦{piece}⟧" if marked else piece for piece, marked in _pieces(text, spans))
