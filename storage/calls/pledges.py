"""Notes about calls that go on at a server without us (a batch), and the reservations that they hold.

A note is a row of ``pledges`` in the call cache's file. Its reservations bear its name instead of a process's, so that a
process that dies loses nothing: whoever finds the note collects the answers, settles them, and drops it.
"""

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence

_TABLE = "CREATE TABLE IF NOT EXISTS pledges (name TEXT PRIMARY KEY, text TEXT NOT NULL, created_at REAL NOT NULL)"
#: Marks a reservation as a note's; no boot of a machine is called so.
MARK = "pledge:"
_KEPT_SECONDS = 30 * 86400.0


class PledgeBook:
    """The table of notes; one connection, used under a lock."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        connection.execute(_TABLE)
        self._close = weakref.finalize(self, connection.close)

    def put(self, name: str, text: str, reservations: Sequence[int]) -> None:
        """Write or replace a note that holds these reservations (and those it held before)."""
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "INSERT INTO pledges VALUES (?,?,?) ON CONFLICT(name) DO UPDATE SET text = excluded.text",
                (name, text, time.time()),
            )
            self._connection.executemany(
                "UPDATE reservations SET boot = ?, pid = 0 WHERE id = ?",
                [(MARK + name, number) for number in reservations],
            )

    def notes(self) -> dict[str, str]:
        """All notes by name, oldest first; what is older than any server keeps its answers is dropped."""
        with self._lock:
            old = time.time() - _KEPT_SECONDS
            stale = self._connection.execute("SELECT name FROM pledges WHERE created_at < ?", (old,)).fetchall()
        for (name,) in stale:
            self.drop(name)
        with self._lock:
            return dict(self._connection.execute("SELECT name, text FROM pledges ORDER BY created_at").fetchall())

    def drop(self, name: str) -> None:
        """Forget the note, give back what it holds."""
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM pledges WHERE name = ?", (name,))
            self._connection.execute("DELETE FROM reservations WHERE boot = ?", (MARK + name,))

    def close(self) -> None:
        """Let go of the file."""
        self._close()


class MeterPledges:
    """``Pledges`` of one list of calls: positions stand for the reservations made for them."""

    def __init__(
        self,
        book: PledgeBook,
        entrust: Callable[[Sequence[int]], list[int]],
        flush: Callable[[], None],
        say: Callable[[int, str], None],
    ) -> None:
        self._book, self._entrust, self._flush, self._say = book, entrust, flush, say

    def put(self, name: str, text: str, positions: Sequence[int]) -> None:
        """See ``Pledges.put``."""
        self._book.put(name, text, self._entrust(positions))

    def notes(self) -> Mapping[str, str]:
        """See ``Pledges.notes``."""
        return self._book.notes()

    def drop(self, name: str) -> None:
        """See ``Pledges.drop``; everything delivered before is durable first."""
        self._flush()
        self._book.drop(name)

    def say(self, done: int, note: str) -> None:
        """See ``Pledges.say``."""
        self._say(done, note)
