"""No LLM call is paid twice: answers become durable as they arrive, in one SQLite file that many processes share.

Protocol. ``put`` hands a record to one writer thread, which commits whatever has come while it was busy, at most 64
records together (WAL, ``synchronous=FULL``), each with the spending it settles, in one transaction. The future that
``put`` returns is done when its record is durable; ``flush`` returns when everything put before is. The first durable
answer of a key wins, except that an answer replaces a stored failure. Answers and failures that no repetition heals
are kept; rate limits, server errors and time-outs never are.
"""

import queue
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import CorruptStore, NewerStore, StoreUnwritable
from storage.calls.claims import Claims, forget
from storage.calls.pledges import PledgeBook
from storage.calls.troubles import TABLE as TROUBLES

FORMAT = 1
GROUP_ROWS = 64
_BUSY_SECONDS = 60.0
_LOOKUP = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
  key BLOB PRIMARY KEY, kind TEXT NOT NULL, model TEXT NOT NULL, request TEXT, reply TEXT NOT NULL,
  finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL,
  attempts INTEGER NOT NULL, failure TEXT, message TEXT NOT NULL, payload BLOB, created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS accounts (
  run TEXT NOT NULL, stage TEXT NOT NULL, calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, usd REAL NOT NULL, unpriced INTEGER NOT NULL,
  lost_tokens INTEGER NOT NULL, lost_usd REAL NOT NULL, PRIMARY KEY (run, stage)
);
CREATE TABLE IF NOT EXISTS reservations (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, stage TEXT NOT NULL, tokens INTEGER NOT NULL,
  usd REAL NOT NULL, pid INTEGER NOT NULL, born REAL NOT NULL, boot TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, run TEXT NOT NULL, stage TEXT NOT NULL, started REAL NOT NULL, last REAL NOT NULL
);
"""

_COLUMNS = (
    "key, kind, model, request, reply, finish_reason, prompt_tokens, completion_tokens, cost_usd, attempts, failure, "
    "message, payload"
)


@dataclass(frozen=True)
class Stored:
    """One call as the cache keeps it: ``kind`` is ``generate`` or ``score``; ``payload`` holds log-probabilities."""

    key: bytes
    kind: str
    model: str
    request: str | None
    reply: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    attempts: int = 1
    failure: str | None = None
    message: str = ""
    payload: bytes | None = None


#: SQL that runs in the transaction of the record it belongs to.
Settle = Callable[[sqlite3.Connection], None]


class CallCache:
    """The call cache and the budget ledger in the SQLite file ``path``. Safe to use from many threads and processes.

    Raises ``NewerStore`` for a file of a newer release, ``CorruptStore`` for what is not such a file and
    ``StoreUnwritable`` where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._read = connect(self.path)
            with closing(connect(self.path)) as fresh:
                _create(fresh, self.path)
                fresh.execute(TROUBLES)
            self.claims = Claims(connect(self.path, synchronous="NORMAL"))  # outlives the process, not the power
            self.pledges = PledgeBook(connect(self.path))
        except sqlite3.DatabaseError as error:
            raise _translated(error, self.path) from error
        except OSError as error:
            raise StoreUnwritable(f"{self.path} cannot be made ({error}); give a folder that you may write") from error
        self._reading = threading.Lock()
        self._writer = _Writer(self.path)
        self._close = weakref.finalize(self, _close, self._writer, self._read, self.claims, self.pledges)

    def lookup(self, keys: Iterable[bytes]) -> dict[bytes, Stored]:
        """What is stored under these keys."""
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, Stored] = {}
        for start in range(0, len(wanted), _LOOKUP):
            part = wanted[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            rows = self._select(f"SELECT {_COLUMNS} FROM calls WHERE key IN ({marks})", part)
            found.update((row[0], Stored(*row)) for row in rows)
        return found

    def all(self, batch: int = 1000) -> Iterator[list[Stored]]:
        """Every stored call in the order of its key, in batches."""
        after = b""
        while rows := self._select(f"SELECT {_COLUMNS} FROM calls WHERE key > ? ORDER BY key LIMIT ?", [after, batch]):
            yield [Stored(*row) for row in rows]
            after = rows[-1][0]

    def put(self, record: Stored | None, settle: Settle | None = None) -> Future[None]:
        """Hand over a record, and the spending to settle with it; the future is done when both are durable, or never."""
        done: Future[None] = Future()
        self._writer.queue.put(_Item(record, settle, done))
        return done

    def flush(self) -> None:
        """Return when everything put before is durable. Raises ``StoreUnwritable`` if any of it cannot be."""
        done = self.put(None)
        while not done.done() and self._writer.thread.is_alive():
            wait([done], 0.5)
        self.check()

    def check(self) -> None:
        """Raise if the writer has failed: nothing more may be sent that could not be stored."""
        if self._writer.error is not None:
            raise _translated(self._writer.error, self.path) from self._writer.error

    def lost_races(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those keys under which another process's answer was durable first; ours was dropped."""
        return self._writer.lost & set(keys)

    def forget_failures(self, classes: Sequence[str] | None = None) -> int:
        """Drop stored failures (of these classes, or all), so that the next run asks again; how many were dropped."""
        self.flush()
        where = "failure IS NOT NULL"
        if classes is not None:
            where += f" AND failure IN ({','.join('?' * len(classes))})"
        with closing(connect(self.path)) as fresh:
            return fresh.execute(f"DELETE FROM calls WHERE {where}", list(classes or ())).rowcount

    def stats(self) -> dict[str, Any]:
        """Counts for people: calls, answers, failures by class, tokens and cost, in all and per model; the file's size.

        ``cost_usd`` is what the calls cost when they were made; None when any of them had no known price. ``met`` is what
        all runs met while they asked, by model and kind: how often, and for how many seconds.
        """
        self.flush()
        rows = self._select(
            "SELECT model, coalesce(failure, ''), count(*), sum(prompt_tokens), sum(completion_tokens), "
            "sum(cost_usd), count(*) - count(cost_usd) FROM calls GROUP BY 1, 2 ORDER BY 1, 2",
            [],
        )
        models = {name: _figures([row for row in rows if row[0] == name]) for name in dict.fromkeys(r[0] for r in rows)}
        met: dict[str, dict[str, dict[str, float]]] = {}
        for model, what, times, seconds in self._select(
            "SELECT model, what, sum(times), sum(seconds) FROM troubles GROUP BY 1, 2 ORDER BY 1, 2", []
        ):
            met.setdefault(model, {})[what] = {"times": times, "seconds": round(seconds, 3)}
        oldest, newest = self._select("SELECT min(created_at), max(created_at) FROM calls", [])[0]
        return {
            **_figures(rows),
            "models": models,
            "met": met,
            "oldest": oldest,
            "newest": newest,
            "size_bytes": self.path.stat().st_size,
        }

    def close(self) -> None:
        """Make everything durable and let go of the file; also happens when the cache is garbage."""
        self._close()

    def _select(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._reading:
            return self._read.execute(sql, values).fetchall()


def _figures(rows: Sequence[Any]) -> dict[str, Any]:
    """Rows of (model, failure, calls, prompt tokens, reply tokens, cost, calls without a price) added up."""
    failures: dict[str, int] = {}
    for row in rows:
        if row[1]:
            failures[row[1]] = failures.get(row[1], 0) + row[2]
    return {
        "calls": sum(row[2] for row in rows),
        "answers": sum(row[2] for row in rows if not row[1]),
        "failures": failures,
        "prompt_tokens": sum(row[3] for row in rows),
        "completion_tokens": sum(row[4] for row in rows),
        "cost_usd": None if any(row[6] for row in rows) else sum(row[5] for row in rows),
    }


def connect(path: Path, synchronous: str = "FULL") -> sqlite3.Connection:
    """A connection in autocommit mode that waits for other writers; usable from any thread under a lock."""
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection


def _create(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise NewerStore(f"{path} has format {version}, this release reads up to {FORMAT}; upgrade provender")
    if version == FORMAT:
        return
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")


@dataclass
class _Item:
    """One entry of the writer's queue."""

    record: Stored | None
    settle: Settle | None
    done: Future[None]

    @property
    def work(self) -> bool:
        """Whether there is anything to write."""
        return self.record is not None or self.settle is not None


class _Writer:
    """The one thread that writes: groups records into transactions. Knows nothing of the cache that owns it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self.error: sqlite3.Error | None = None
        self.lost: set[bytes] = set()
        self.thread = threading.Thread(target=self._run, name="provender-calls", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with closing(connect(self.path)) as connection:
            more = True
            while more:
                group, more = self._group()
                if any(item.work for item in group) and self.error is None:
                    try:
                        self._commit(connection, group)
                    except sqlite3.Error as error:
                        self.error = error
                for item in group:
                    item.done.set_result(None)

    def _group(self) -> tuple[list["_Item"], bool]:
        """What has come, waiting for the first; and whether to go on afterwards."""
        group: list[_Item] = []
        item = self.queue.get()
        while item is not None:
            group.append(item)
            if len(group) == GROUP_ROWS or self.queue.empty():
                return group, True
            item = self.queue.get()
        return group, False

    def _commit(self, connection: sqlite3.Connection, group: list["_Item"]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for item in group:
                if item.record is not None:
                    if not _insert(connection, item.record):
                        self.lost.add(item.record.key)
                    forget(connection, item.record.key)
                if item.settle is not None:
                    item.settle(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _insert(connection: sqlite3.Connection, record: Stored) -> bool:
    """Store the record unless its key has an answer already; whether it was stored."""
    values = (
        *(record.key, record.kind, record.model, record.request, record.reply, record.finish_reason),
        *(record.prompt_tokens, record.completion_tokens, record.cost_usd, record.attempts, record.failure),
        *(record.message, record.payload, time.time()),
    )
    names = [name.strip() for name in _COLUMNS.split(",")][1:]
    changes = ", ".join(f"{name}=excluded.{name}" for name in [*names, "created_at"])
    cursor = connection.execute(
        f"INSERT INTO calls ({_COLUMNS}, created_at) VALUES ({','.join('?' * len(values))}) "
        f"ON CONFLICT(key) DO UPDATE SET {changes} WHERE calls.failure IS NOT NULL AND excluded.failure IS NULL",
        values,
    )
    return cursor.rowcount > 0


def _close(writer: _Writer, read: sqlite3.Connection, claims: Claims, pledges: PledgeBook) -> None:
    writer.queue.put(None)
    writer.thread.join(_BUSY_SECONDS)
    for one in (read, claims, pledges):
        one.close()


def _translated(error: sqlite3.Error, path: Path) -> StoreUnwritable | CorruptStore:
    """SQLite's error as ours, with the way out."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if name in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        return CorruptStore(
            f"{path} is not a sound call cache ({error}); move it away and run again: answers are asked anew"
        )
    return StoreUnwritable(f"{path} cannot be written ({error}, {name}); free space or permissions and run again")
