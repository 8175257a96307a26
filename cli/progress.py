"""Progress of a run: Rich bars on a terminal, plain lines otherwise; always on stderr."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

from rich.markup import escape

from tasks.events import Event, Listener, line, listening


@contextmanager
def watching(quiet: bool = False) -> Generator[None]:
    """Show what the run says while the block goes."""
    if quiet:
        yield
        return
    if sys.stderr.isatty():
        with _bars() as listener, listening(listener):
            yield
        return
    with listening(Lines()):
        yield


class Lines:
    """Plain lines: every step, and how far a long one has come at most every ten seconds."""

    def __init__(self, every_seconds: float = 10.0) -> None:
        self.last = time.monotonic()
        self._every = every_seconds
        self._merged = Merged()

    def __call__(self, event: Event) -> None:
        """Print the event."""
        event = self._merged(event)
        if event.kind == "progress":
            if time.monotonic() - self.last < self._every:
                return
            self.last = time.monotonic()
        print(line(event), file=sys.stderr, flush=True)


class Merged:
    """One progress out of two: the method's own count where it has one, with what its model calls cost beside it."""

    def __init__(self) -> None:
        self._own: dict[str, Event] = {}
        self._spent: dict[str, str] = {}

    def __call__(self, event: Event) -> Event:
        """The event as it is shown."""
        if event.kind != "progress":
            self._own.pop(event.ref, None)
            self._spent.pop(event.ref, None)
            return event
        if event.calls:
            self._spent[event.ref] = event.note
            own = self._own.get(event.ref)
            if own is None or own.done >= own.total:
                return event
            event = own
        elif event.total:
            self._own[event.ref] = event
        return replace(event, note="; ".join(part for part in (event.note, self._spent.get(event.ref, "")) if part))


@contextmanager
def _bars() -> Generator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=True,
    ) as progress:
        rows: dict[str, int] = {}
        merged = Merged()

        def listener(event: Event) -> None:
            event = merged(event)
            row = rows.get(event.ref)
            match event.kind:
                case "start" if row is None:  # a step whose queue began before it has its bar
                    rows[event.ref] = progress.add_task(f"{event.stage} {event.what}", total=None, note="")  # type: ignore[assignment]
                case "progress" if row is not None:
                    note = escape(event.note[:120])
                    progress.update(row, completed=event.done, total=event.total or None, note=note)  # type: ignore[arg-type]
                case "done" | "failed" if row is not None:
                    progress.remove_task(rows.pop(event.ref))  # type: ignore[arg-type]
                case _:  # a step without a bar
                    pass
            if event.kind != "progress" and event.kind != "start":
                style = {"failed": "red", "reused": "dim"}.get(event.kind, "")
                console.print(line(event), style=style, markup=False, highlight=False)

        yield listener
