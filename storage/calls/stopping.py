"""How a run is asked to stop cleanly: SIGTERM, the first Ctrl-C, or a file named STOP in the store."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

STOP_FILE = "STOP"

_asked: list[str] = []


@contextmanager
def stop_on_signals() -> Generator[None]:
    """While inside, SIGTERM and the first Ctrl-C only ask for a stop: what is in flight is finished and kept.

    A second Ctrl-C interrupts at once. Outside the main thread, where Python delivers no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if _asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        _asked.append(signal.Signals(number).name)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def stop_asked(folder: Path) -> str | None:
    """Who asked for a stop, in words, or None. ``folder`` is where a STOP file would lie."""
    if _asked:
        return f"by {_asked[0]}"
    if (folder / STOP_FILE).exists():
        return f"by the file {folder / STOP_FILE} (remove it to go on)"
    return None
