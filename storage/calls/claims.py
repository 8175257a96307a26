"""Single flight: a call that another thread or process of the same store has sent is awaited, not paid twice.

A row of ``claims`` says who has a call in flight. It goes in the transaction that makes the answer durable, or when its
owner lets go; the claim of a process that died is taken over. A claim saves money, never correctness: without it the
first durable answer would win all the same. Whoever holds claims sends those calls before it waits for anybody, so no
two wait for each other.
"""

import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import TracebackType

from backends.processes import alive, boot_id, born

_PART = 500
#: Between two looks at calls that others have in flight; doubles up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5

_TABLE = """
CREATE TABLE IF NOT EXISTS claims (
  key BLOB PRIMARY KEY, owner TEXT NOT NULL, pid INTEGER NOT NULL, born REAL NOT NULL, boot TEXT NOT NULL,
  thread INTEGER NOT NULL
) WITHOUT ROWID
"""
_BY_OWNER = "CREATE INDEX IF NOT EXISTS claims_by_owner ON claims (owner)"

#: Told how many calls are awaited and which processes have them in flight; raises to stop waiting.
Waiting = Callable[[int, set[int]], None]


class Claims:
    """The table of claims in the call cache's file; one connection, used under a lock."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        connection.execute(_TABLE)
        connection.execute(_BY_OWNER)
        self._close = weakref.finalize(self, connection.close)

    def flight(self) -> "Flight":
        """What one list of calls holds; a context manager that lets go of all of it at its end."""
        return Flight(self)

    def take(self, owner: str, keys: Sequence[bytes]) -> set[bytes]:
        """Claim what is free or belongs to the dead; those that may be sent now.

        A call that this very thread has in flight already (an engine that calls an engine) counts as free.
        """
        pid, birth, boot = _me()
        thread = threading.get_ident()
        free: set[bytes] = set()
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                held = self._held(keys)
                dead = [(key,) for key, who in held.items() if not _lives(*who[:3])]
                self._connection.executemany("DELETE FROM claims WHERE key = ?", dead)
                gone = {key for (key,) in dead}
                for key in keys:
                    if key not in held or key in gone:
                        free.add(key)
                self._connection.executemany(
                    "INSERT OR IGNORE INTO claims VALUES (?,?,?,?,?,?)",
                    [(key, owner, pid, birth, boot, thread) for key in free],
                )
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        return free | {key for key, who in held.items() if (who[0], who[3]) == (pid, thread)}

    def held(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Those in flight elsewhere, with the process; what the dead left is not in flight."""
        with self._lock:
            found = self._held(keys)
        return {key: who[0] for key, who in found.items() if _lives(*who[:3])}

    def drop(self, owner: str, keys: Iterable[bytes] | None = None) -> None:
        """Let go of these calls, or of all of this owner's."""
        with self._lock:
            if keys is None:
                self._connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            else:
                self._connection.executemany(
                    "DELETE FROM claims WHERE owner = ? AND key = ?", [(owner, key) for key in keys]
                )

    def close(self) -> None:
        """Let go of the file."""
        self._close()

    def _held(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, float, str, int]]:
        found: dict[bytes, tuple[int, float, str, int]] = {}
        for start in range(0, len(keys), _PART):
            part = keys[start : start + _PART]
            marks = ",".join("?" * len(part))
            rows = self._connection.execute(
                f"SELECT key, pid, born, boot, thread FROM claims WHERE key IN ({marks})", part
            )
            found.update((row[0], (row[1], row[2], row[3], row[4])) for row in rows)
        return found


class Flight:
    """The claims of one list of calls."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._owner = uuid.uuid4().hex

    def __enter__(self) -> "Flight":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._claims.drop(self._owner)

    def take(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of ``keys``, in order, that are ours to send."""
        ours = self._claims.take(self._owner, keys)
        return [key for key in keys if key in ours]

    def drop(self, keys: Iterable[bytes]) -> None:
        """These need not be sent after all."""
        self._claims.drop(self._owner, keys)

    def wait(self, keys: Sequence[bytes], waiting: Waiting) -> None:
        """Return when at least one of these calls is no longer in flight elsewhere."""
        pause = _FIRST_PAUSE
        while len(held := self._claims.held(keys)) == len(keys):
            waiting(len(held), set(held.values()))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def forget(connection: sqlite3.Connection, key: bytes) -> None:
    """SQL for the writer's transaction: the answer is durable, nobody need wait for it any longer."""
    connection.execute("DELETE FROM claims WHERE key = ?", (key,))


def _me() -> tuple[int, float, str]:
    return os.getpid(), _birth(os.getpid()), boot_id()


@cache
def _birth(pid: int) -> float:
    return born(pid)


def _lives(pid: int, birth: float, boot: str) -> bool:
    return (pid, birth, boot) == _me() or alive(pid, birth, boot)
