"""What a run shows in Prefect's own pages: the funnel of its steps, its evaluations, progress of long steps, a way here.

Only inside a flow run and only where a Prefect server is known that outlives it; else nothing is done. All of it
is sent from one thread of its own: a slow server slows no step, and what fails is one line in the log.
"""

import contextvars
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import TaskRunContext

from schemas.lineage import DatasetRef
from storage.questions.training import metrics_of
from storage.store import Store
from tasks.bench import Bench, open_store
from tasks.events import Event, listening
from tasks.own_server import standing_server

log = logging.getLogger("provender")

#: Address of the lineage browser in links (`provender serve`'s own where ``PROVENDER_URL`` names no other).
BROWSER = "http://127.0.0.1:8377"

LONG_SECONDS = 10.0  # a step that runs longer than this has a progress artifact
EVERY_SECONDS = 5.0  # … which is brought up to date so often
PATIENCE_SECONDS = 15.0  # how long the end of a run waits for what was not sent yet

_CELL = 200


@contextmanager
def artifacts(name: str, bench: Bench, flow_run_id: str | None) -> Generator[None]:
    """Hear the run's events while the block goes, and leave its artifacts at the end, also where it fails."""
    if flow_run_id is None or standing_server() is None:
        yield
        return
    sender = _Sender(flow_run_id)
    heard = RunArtifacts(name, bench, sender)
    try:
        with listening(heard):
            yield
    finally:
        heard.finish()
        sender.close()


class RunArtifacts:
    """Collects what the artifacts of one run say; ``send`` is given (key, type, data, description, task run)."""

    def __init__(self, name: str, bench: Bench, send: "_Sender") -> None:
        self._name, self._bench, self._send = name, bench, send
        self._rows: list[dict[str, Any]] = []
        self._evaluations: list[str] = []
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Note the event; nothing here waits or raises."""
        with self._lock:
            if event.kind == "start":
                self._watched[event.ref] = _Watched(time.monotonic())
            elif event.kind == "progress":
                self._progress(event)
            elif event.kind in ("done", "reused", "failed"):
                self._ended(event)

    def finish(self) -> None:
        """The tables and the link, once the steps are over."""
        with self._lock:
            if len(self._rows) > 1:
                self._send(slug(f"funnel-{self._name}"), "table", json.dumps(self._rows), "Rows through the steps.")
            made = [row["ref"] for row in self._rows if row["ref"] and row["state"] != "failed"]
            published = [ref for ref in made if ref.startswith("publish@")] or made
            if published:
                self._send(
                    slug(f"lineage-{self._name}"), "markdown", link_to(published[-1]),
                    "Opens while `provender serve` runs there (`PROVENDER_URL` names another address).",
                )  # fmt: skip
            for ref in dict.fromkeys(self._evaluations):
                self._evaluated(ref)

    def _progress(self, event: Event) -> None:
        watched = self._watched.get(event.ref)
        if watched is None or event.total <= 0 or (event.calls and watched.own):
            return
        watched.own = watched.own or not event.calls
        now, percent = time.monotonic(), round(min(100.0, 100 * event.done / event.total), 1)
        if now - watched.started < LONG_SECONDS or now - watched.sent < EVERY_SECONDS:
            return
        watched.sent = now
        context = TaskRunContext.get()
        self._send(
            slug(f"progress-{self._name}-{event.stage}"), "progress", percent, f"{event.stage}: {event.what}",
            task_run_id=None if context is None else str(context.task_run.id), update=event.ref,
        )  # fmt: skip

    def _ended(self, event: Event) -> None:
        watched = self._watched.pop(event.ref, None)
        if watched and watched.sent and event.kind == "done":
            key = slug(f"progress-{self._name}-{event.stage}")
            self._send(key, "progress", 100.0, f"{event.stage}: {event.what}", update=event.ref)
        counts = event.counts
        self._rows.append(
            {
                "step": event.stage,
                "method": _cell(event.what),
                "state": {"done": "computed"}.get(event.kind, event.kind),
                "kept": counts.get("kept", 0),
                "dropped": counts.get("rejected", 0) + counts.get("quarantined", 0),
                "edited": counts.get("edited", 0),
                "created": counts.get("created", 0),
                "refused": counts.get("refused", 0),
                "rows out": counts.get("rows_out", 0),
                "seconds": round(event.seconds, 1),
                "ref": event.ref,
            }
        )
        if event.stage == "evaluate" and event.kind != "failed":
            self._evaluations.append(event.ref)

    def _evaluated(self, ref: str) -> None:
        try:
            rows = evaluation_rows(open_store(self._bench), ref)
        except Exception as error:  # an artifact is a courtesy: the evaluation itself is in the store
            log.warning("no artifact of %s: %s", ref, error)
            return
        if rows:
            self._send(slug(f"evaluation-{self._name}"), "table", json.dumps(rows), f"{ref}, 95 % intervals.")


class _Watched:
    """When a running step began, when its progress was last sent, whether it counts its own work."""

    def __init__(self, started: float) -> None:
        self.started, self.sent, self.own = started, 0.0, False


class _Sender:
    """One thread that talks to the server, in order. The first failure is logged and ends it: a server may be gone."""

    def __init__(self, flow_run_id: str) -> None:
        self._flow_run_id = flow_run_id
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._known: dict[str, Any] = {}
        context = contextvars.copy_context()  # Prefect's settings live in it
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="artifacts", daemon=True)
        self._thread.start()

    def __call__(
        self, key: str, kind: str, data: str | float, says: str, *, task_run_id: str | None = None, update: str = ""
    ) -> None:
        """Send soon; with ``update`` the artifact of that name is changed instead of made again."""
        self._waiting.put(
            {"key": key, "type": kind, "data": data, "description": says, "task_run_id": task_run_id, "update": update}
        )

    def close(self) -> None:
        """Wait a while for what is left."""
        self._waiting.put(None)
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            log.warning("the Prefect server takes no artifacts; the run goes on without them")

    def _work(self) -> None:
        try:
            with get_client(sync_client=True) as client:
                while (one := self._waiting.get()) is not None:
                    self._send(client, one)
        except Exception as error:  # whatever the server or the network does is no reason to fail a run
            why = str(error).splitlines() or [type(error).__name__]
            log.warning("no more artifacts in Prefect for this run: %s", why[0])

    def _send(self, client: SyncPrefectClient, one: dict[str, Any]) -> None:
        name = one.pop("update")
        if name in self._known:
            client.update_artifact(self._known[name], ArtifactUpdate(data=one["data"]))  # type: ignore[call-arg]
            return
        made = client.create_artifact(ArtifactCreate(**one, flow_run_id=self._flow_run_id))  # type: ignore[arg-type]
        if name:
            self._known[name] = made.id


def evaluation_rows(store: Store, ref: str) -> list[dict[str, Any]]:
    """The figures of an evaluation, a row each; what could not be measured is left out."""
    found = metrics_of(store.describe(DatasetRef.parse(ref)).summary)
    return [
        {
            "metric": _cell(one.name),
            "slice": _cell(one.slice),
            "examples": one.examples,
            "before": _rounded(one.before),
            "interval before": _between(one.before_low, one.before_high),
            "after": _rounded(one.value),
            "interval": _between(one.low, one.high),
            "change": _rounded(one.change),
            "interval of the change": _between(one.change_low, one.change_high),
        }
        for one in found
        if one.value is not None
    ]


def link_to(ref: str) -> str:
    """A Markdown link to the page of a version in the lineage browser.

    >>> link_to("publish@0123456789abcdef")
    '[publish@0123456789abcdef](http://127.0.0.1:8377/d/publish@0123456789abcdef)'
    """
    base = os.environ.get("PROVENDER_URL", BROWSER).rstrip("/")
    return f"[{ref}]({base}/d/{quote(ref, safe='@')})"


def slug(text: str) -> str:
    """A key as Prefect wants it: lower-case letters, digits and dashes.

    >>> slug("funnel-Support_Bot v2")
    'funnel-support-bot-v2'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _cell(text: Any) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line[:_CELL]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
