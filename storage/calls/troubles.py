"""What a run met while it asked its models: rate limits, errors, resets, repairs, waits, restarts; counted per step and model.

A table beside the budget's accounts, in the call cache's file: no version, ref or digest knows of it. Counts are added
up in the very transaction that stores an answer, those between answers about once a second, each of them once. So a
kill loses what was not written yet and nothing counts twice: the run that goes on adds to the same account.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from backends.protocols import Met

#: SQL for the transaction of the one writer.
Writing = Callable[[sqlite3.Connection], None]

TABLE = """
CREATE TABLE IF NOT EXISTS troubles (
  account TEXT NOT NULL, run TEXT NOT NULL, stage TEXT NOT NULL, step TEXT NOT NULL, model TEXT NOT NULL,
  what TEXT NOT NULL, times INTEGER NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (account, run, stage, step, model, what)
) WITHOUT ROWID
"""
_ADD = (
    "INSERT INTO troubles VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET "
    "times = times + excluded.times, seconds = seconds + excluded.seconds"
)
#: What is not in a transaction of an answer is written when the last writing was so long ago.
_EVERY_SECONDS = 1.0

#: Kinds that are told, in the order of tables, as people call them. What is not here is told apart: waits, requests.
WORDS: Mapping[str, str] = {
    "rate-limited": "429",
    "server-error": "5xx",
    "timeout": "timed out",
    "connection": "connection lost",
    "undecodable": "malformed",
    "refused-by-server": "refused",
    "empty": "empty",
    "wrong-schema": "wrong shape",
    "cut-off": "cut off",
    "repair": "repaired",
    "fallback": "elsewhere",
    "breaker": "left alone",
    "crash": "engine died",
    "stall": "engine stalled",
    "restart": "restarts",
}
#: Kinds whose seconds count: what the calls waited, added up over calls that waited at once.
WAITS: Mapping[str, str] = {
    "retry-after": "Retry-After",
    "backoff": "pauses",
    "limit": "limit a minute",
    "restart": "restarting",
}
#: What the live line need not tell at once, or may not: who watches an engine would not survive an error of a listener.
_SILENT = frozenset({"request", "crash", "stall", "restart"})


@dataclass(frozen=True)
class Place:
    """Whose troubles: the budget's ``account`` and the ``run`` that draws on it, its stage, and the step by its ref."""

    account: str = ""
    run: str = ""
    stage: str = ""
    step: str = ""


@dataclass(frozen=True)
class Count:
    """One line of the ledger."""

    place: Place
    model: str
    what: str
    times: int
    seconds: float


class Tally:
    """What one model of one step meets, on its way into the ledger. Any thread may count."""

    def __init__(self, place: Place, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.place, self.model = place, model
        self._clock = clock
        self._lock = threading.Lock()
        self._fresh: dict[tuple[str, str], tuple[int, float]] = {}  # by model and kind: not handed over yet
        self._told: dict[str, int] = {}  # by kind: all that this process met
        self._written = 0.0

    def met(self, what: Met, times: int = 1, *, seconds: float = 0.0, model: str = "") -> None:
        """See ``Troubles.met``."""
        key = (model or self.model, what)
        with self._lock:
            before = self._fresh.get(key, (0, 0.0))
            self._fresh[key] = (before[0] + times, before[1] + seconds)
            self._told[what] = self._told.get(what, 0) + times

    def due(self) -> bool:
        """Whether what is counted should be written without waiting for an answer."""
        with self._lock:
            return bool(self._fresh) and self._clock() - self._written >= _EVERY_SECONDS

    def settle(self) -> Writing | None:
        """SQL for the writer's transaction with all that is not written yet, which is forgotten here; None if nothing is."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            self._written = self._clock()
        if not fresh:
            return None
        at = self.place
        rows = [(at.account, at.run, at.stage, at.step, *key, *count) for key, count in fresh.items()]

        def settle(connection: sqlite3.Connection) -> None:
            connection.executemany(_ADD, rows)

        return settle

    def words(self) -> str:
        """For the live line: ``429 61x, 5xx 3x``; empty while nothing went wrong."""
        with self._lock:
            told = dict(self._told)
        return ", ".join(f"{word} {told[kind]:,}x" for kind, word in WORDS.items() if told.get(kind))


class Noted:
    """``Troubles`` of one list of calls: counts, writes what is due, and keeps the live line going while nothing comes."""

    def __init__(self, tally: Tally, write: Callable[[Writing], object], show: Callable[[], None]) -> None:
        self._tally, self._write, self._show = tally, write, show

    def met(self, what: Met, times: int = 1, *, seconds: float = 0.0, model: str = "") -> None:
        """See ``Troubles.met``."""
        self._tally.met(what, times, seconds=seconds, model=model)
        rare = what in ("crash", "stall", "restart")  # the list of calls may be over when they are told
        if (rare or self._tally.due()) and (settle := self._tally.settle()) is not None:
            self._write(settle)
        if what not in _SILENT:
            self._show()


def both(first: Writing | None, second: Writing | None) -> Writing | None:
    """One after the other in one transaction."""
    if first is None or second is None:
        return first or second

    def settle(connection: sqlite3.Connection) -> None:
        first(connection)
        second(connection)

    return settle


def counted(path: Path, account: str | None = None) -> list[Count] | None:
    """Every line of an account (or of all) in the ledger ``path``, which is only read.

    None where there is no ledger, it cannot be read, or it is of a release that did not count.
    """
    path = path.resolve()
    if not path.exists():
        return None
    where, values = ("", ()) if account is None else (" WHERE account = ?", (account,))
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2.0)) as file:
            rows = file.execute(
                f"SELECT account, run, stage, step, model, what, times, seconds FROM troubles{where} "
                "ORDER BY account, run, stage, step, model, what",
                values,
            ).fetchall()
    except sqlite3.Error:
        return None
    known = set(get_args(Met))
    return [Count(Place(*row[:4]), *row[4:]) for row in rows if row[5] in known]
