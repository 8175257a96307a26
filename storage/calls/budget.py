"""Budgets bind: the worst case of a call is reserved before it is sent and settled when its reply is stored.

The ledger lies in the call cache's file, so every process that works for a run draws on the same account, and it is
cumulative: an account belongs to a run and a stage by name, and a resumed run goes on with what it has spent. What a
killed process had in flight may have been billed: its reservations count as lost, at their worst case.
"""

import math
import os
import sqlite3
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backends.processes import alive, boot_id, born
from schemas.errors import UsageError
from storage.calls.cache import Settle, connect
from storage.calls.pledges import MARK


@dataclass(frozen=True)
class Ceilings:
    """What may be spent; None is no ceiling. ``seconds`` count from a session's first call to its last reply."""

    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is a ceiling at all."""
        return not (self.tokens is None and self.usd is None and self.seconds is None)


@dataclass(frozen=True)
class Spent:
    """What an account shows. ``usd`` is None when any call had no known price; ``lost`` is in the totals already."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    lost_tokens: int = 0
    seconds: float = 0.0
    known_usd: float = 0.0  # the part with a price, lost calls included

    @property
    def tokens(self) -> int:
        """Everything that counts against the ceiling."""
        return self.prompt_tokens + self.completion_tokens + self.lost_tokens


class Budget:
    """The account of one stage of one run, with the ceilings of both. Threads and processes may share it."""

    def __init__(self, path: Path, run: str, stage: str, whole: Ceilings, of_stage: Ceilings = Ceilings()) -> None:
        self.run, self.stage = run, stage
        self.whole, self.of_stage = whole, of_stage
        self._path = path
        self._lock = threading.RLock()
        self._session = uuid.uuid4().hex
        self._begun: tuple[float, float] | None = None  # wall clock and monotonic clock at the first call
        self._connection = connect(path, synchronous="NORMAL")  # a reservation outlives the process, not the power
        self._close = weakref.finalize(self, self._connection.close)
        self._fold_dead()

    @property
    def bounded(self) -> bool:
        """Whether anything limits the spending."""
        return self.whole.any or self.of_stage.any

    def reserve(self, tokens: int, usd: float | None) -> "int | Refusal":
        """Set aside the worst case of one call: a reservation's number, or why it does not fit.

        Raises ``UsageError`` when a ceiling in USD stands before a model without a price.
        """
        if usd is None and not (self.whole.usd is None and self.of_stage.usd is None):
            raise UsageError(
                f"run {self.run} has a ceiling in USD, but the model has no price, so it cannot bind; "
                "give the backend `prices`, name a table in PROVENDER_PRICES, or set a ceiling in tokens"
            )
        with self._lock:
            seconds = self._tick()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                number = 0
                refusal = self._refusal(tokens, usd or 0.0)
                if refusal is None:
                    pid, birth, boot = _me()
                    cursor = self._connection.execute(
                        "INSERT INTO reservations (run, stage, tokens, usd, pid, born, boot) VALUES (?,?,?,?,?,?,?)",
                        (self.run, self.stage, tokens, usd or 0.0, pid, birth, boot),
                    )
                    number = int(cursor.lastrowid or 0)
                self._save_session(self._connection, seconds)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        return refusal if refusal is not None else number

    def settlement(
        self, reservations: list[int], prompt_tokens: int, completion_tokens: int, usd: float | None
    ) -> Settle:
        """SQL for the writer's transaction: the reservations become what was spent."""
        seconds = self._tick()

        def settle(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM reservations WHERE id = ?", [(number,) for number in reservations])
            self._book(connection, 1, prompt_tokens, completion_tokens, usd or 0.0, int(usd is None), 0, 0.0)
            self._save_session(connection, seconds)

        return settle

    def release(self, reservations: list[int]) -> Settle:
        """SQL for the writer's transaction: nothing was sent, or nothing was billed."""

        def settle(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM reservations WHERE id = ?", [(number,) for number in reservations])

        return settle

    def spent(self, *, whole: bool = False) -> Spent:
        """What this stage, or with ``whole`` the run, has spent so far, over all resumes."""
        with self._lock:
            return self._account(whole)

    def close(self) -> None:
        """Let go of the file."""
        self._close()

    def _refusal(self, tokens: int, usd: float) -> "Refusal | None":
        for whole, ceilings in ((True, self.whole), (False, self.of_stage)):
            if not ceilings.any:
                continue
            account = self._account(whole)
            open_tokens, open_usd = self._reserved(whole)
            name = f"run {self.run}" if whole else f"stage {self.stage} of run {self.run}"
            checks: list[tuple[str, float | None, float, float, float]] = [
                ("tokens", ceilings.tokens, account.tokens, open_tokens, tokens),
                ("usd", ceilings.usd, account.known_usd, open_usd, usd),
                ("seconds", ceilings.seconds, account.seconds, 0.0, 0.0),
            ]
            for unit, ceiling, used, in_flight, wanted in checks:
                over = ceiling is not None and (
                    used >= ceiling if unit == "seconds" else used + in_flight + wanted > ceiling
                )
                if over and ceiling is not None:
                    return Refusal(name, unit, ceiling, used, wanted, account)
        return None

    def _account(self, whole: bool) -> Spent:
        where, values = self._where(whole)
        row = self._connection.execute(
            "SELECT coalesce(sum(calls),0), coalesce(sum(prompt_tokens),0), coalesce(sum(completion_tokens),0), "
            "coalesce(sum(usd),0.0), coalesce(sum(unpriced),0), coalesce(sum(lost_tokens),0), "
            f"coalesce(sum(lost_usd),0.0) FROM accounts WHERE {where}",
            values,
        ).fetchone()
        spans = self._connection.execute(f"SELECT started, last FROM sessions WHERE {where}", values).fetchall()
        known = row[3] + row[6]
        return Spent(row[0], row[1], row[2], None if row[4] else known, row[5], union_seconds(spans), known)

    def _reserved(self, whole: bool) -> tuple[int, float]:
        where, values = self._where(whole)
        return self._connection.execute(
            f"SELECT coalesce(sum(tokens),0), coalesce(sum(usd),0.0) FROM reservations WHERE {where}", values
        ).fetchone()

    def _where(self, whole: bool) -> tuple[str, list[str]]:
        return ("run = ?", [self.run]) if whole else ("run = ? AND stage = ?", [self.run, self.stage])

    def _book(self, connection: sqlite3.Connection, *amounts: float) -> None:
        names = ("calls", "prompt_tokens", "completion_tokens", "usd", "unpriced", "lost_tokens", "lost_usd")
        adds = ", ".join(f"{name} = {name} + excluded.{name}" for name in names)
        connection.execute(
            f"INSERT INTO accounts (run, stage, {', '.join(names)}) VALUES (?,?,?,?,?,?,?,?,?) "
            f"ON CONFLICT(run, stage) DO UPDATE SET {adds}",
            (self.run, self.stage, *amounts),
        )

    def _tick(self) -> float:
        """Seconds since this session's first call; steps of the wall clock do not count."""
        with self._lock:
            if self._begun is None:
                self._begun = (time.time(), time.monotonic())
            return time.monotonic() - self._begun[1]

    def _save_session(self, connection: sqlite3.Connection, seconds: float) -> None:
        assert self._begun is not None, "_tick comes first"
        started = self._begun[0]
        connection.execute(
            "INSERT INTO sessions (id, run, stage, started, last) VALUES (?,?,?,?,?) "
            "ON CONFLICT(id) DO UPDATE SET last = max(last, excluded.last)",
            (self._session, self.run, self.stage, started, started + seconds),
        )

    def _fold_dead(self) -> None:
        """Reservations of processes that are gone become losses: their calls may have been billed."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            rows = self._connection.execute(
                "SELECT id, tokens, usd, pid, born, boot FROM reservations WHERE run = ? AND stage = ?",
                (self.run, self.stage),
            ).fetchall()
            for number, tokens, usd, pid, birth, boot in rows:
                if not boot.startswith(MARK) and not alive(pid, birth, boot):
                    self._connection.execute("DELETE FROM reservations WHERE id = ?", (number,))
                    self._book(self._connection, 0, 0, 0, 0.0, 0, tokens, usd)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise


@dataclass(frozen=True)
class Refusal:
    """Why a reservation did not fit."""

    name: str
    unit: str
    ceiling: float
    used: float
    wanted: float
    account: Spent

    def says(self, left: int) -> str:
        """The sentence for the user, with what the ``left`` calls would need."""
        calls = self.account.calls
        each = self.used / calls if calls else self.wanted
        needed = self.used + max(self.wanted, each * left)
        return (
            f"{self.name} stopped at its ceiling of {_amount(self.ceiling, self.unit)}: "
            f"{_amount(self.used, self.unit)} went into {calls} calls and {left} calls are left; they would need a "
            f"ceiling of about {_amount(needed, self.unit)}; raise `budget.max_{self.unit}` and run again, "
            "everything answered is kept"
        )


def _amount(value: float, unit: str) -> str:
    return f"{value:.4f} USD" if unit == "usd" else f"{math.ceil(value):,} {unit}"


def union_seconds(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals: stages that run at once count once."""
    total, reached = 0.0, -math.inf
    for started, last in sorted(spans):
        total += max(0.0, last - max(started, reached))
        reached = max(reached, last)
    return total


def _me() -> tuple[int, float, str]:
    return os.getpid(), _birth(os.getpid()), boot_id()


@cache
def _birth(pid: int) -> float:
    return born(pid)
