"""What a part of a long benchmark printed, kept in a folder, so that the command goes on where it was cut short."""

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path


class Kept:
    """Printed parts by name, in ``parts.json`` of the folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "parts.json" if folder else None
        self._parts: dict[str, str] = {}
        if self._path and self._path.exists():
            self._parts = json.loads(self._path.read_text(encoding="utf-8"))

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def part(self, name: str, work: Callable[[], None]) -> None:
        """Do the work and keep what it prints, or print what it printed the first time."""
        if name in self._parts:
            print(self._parts[name], end="", flush=True)
            return
        said = _Both()
        with contextlib.redirect_stdout(said):
            work()
        self._parts[name] = said.getvalue()
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(self._parts, indent=1), encoding="utf-8")
            unfinished.rename(self._path)


class _Both(io.StringIO):
    """Printed at once, and kept."""

    def write(self, text: str) -> int:
        if sys.__stdout__ is not None:
            sys.__stdout__.write(text)
            sys.__stdout__.flush()
        return super().write(text)
