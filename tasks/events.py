"""What a run says while it goes: steps started, reused, finished, and how far long work has come."""

import logging
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

log = logging.getLogger("provender")


@dataclass(frozen=True)
class Event:
    """One thing that happened to a step. ``rows`` and the counts are known once it is done."""

    kind: Literal["start", "progress", "reused", "done", "failed", "note"]
    stage: str
    what: str = ""  # the method's tag, or the note
    ref: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    calls: bool = False  # progress that counts model calls of the list at hand, with what they cost in the note


Listener = Callable[[Event], Any]
_listeners: list[Listener] = []
_lock = threading.Lock()


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Hear every event of this process while the block runs; a listener that raises ends the run."""
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)


class StepProgress:
    """What a step is given to report itself with: its own work by calling it, its model calls by ``calls``.

    ``models`` are told how far the whole work is, so that they can say what it leads to.
    """

    def __init__(self, stage: str, what: str, ref: str) -> None:
        self._event = Event("progress", stage, what, ref)
        self.models: Sequence[Any] = ()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """So much of the step's own work is through."""
        for model in self.models:
            model.spending.of_step(done, total)
        emit(replace(self._event, done=done, total=total, note=note))

    def calls(self, done: int, total: int, note: str = "") -> None:
        """So many calls of the list at hand are answered."""
        emit(replace(self._event, done=done, total=total, note=note, calls=True))


def emit(event: Event) -> None:
    """Tell all listeners, and the log where nobody listens."""
    with _lock:
        listeners = list(_listeners)
    for listener in listeners:
        listener(event)
    if event.kind != "progress":
        log.info("%s", line(event))


def line(event: Event) -> str:
    """The event as one plain line, as printed where there is no terminal."""
    match event.kind:
        case "start":
            return f"{event.stage}: {event.what} …"
        case "reused":
            return f"{event.stage}: reusing {event.ref} ({event.counts.get('rows_out', 0):,} examples)"
        case "done":
            told = ", ".join(
                f"{name} {count:,}" for name, count in event.counts.items() if name != "rows_out" and count
            )
            rows = event.counts.get("rows_out", 0)
            told = told or (
                f"{rows:,} examples" if rows else "done"
            )  # a bake-off, a trained model: no examples come out
            return f"{event.stage}: {told} -> {event.ref} ({event.seconds:.1f} s)"
        case "progress":
            share = f"{event.done:,}/{event.total:,}" if event.total else f"{event.done:,}"
            return f"{event.stage}: {share} {'calls, ' if event.calls else ''}{event.note}".rstrip()
        case _:
            return f"{event.stage}: {event.kind} {event.what} {event.note}".rstrip()
