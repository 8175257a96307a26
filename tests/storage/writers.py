"""Writers as processes that can be killed: what they commit, what they were acknowledged, and the check afterwards."""

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from schemas.lineage import DatasetRef
from storage.store import Store
from tests.forked import CONTEXT
from tests.storage.making import SHORT, examples, filter_step, ingest_step


def write(root: Path, writer: int, jobs: list[int], acks: Path, failpoint: str | None = None) -> None:
    """Commits an ingest and a filter of it per job, tags it, and notes each acknowledgement in an append-only file.

    Every writer makes different rows for the same step, so that two results of one step could be told apart.
    """
    if failpoint:
        os.environ["PROVENDER_FAILPOINT"] = failpoint
    store = Store.open(root)
    log = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def acknowledged(**what: str | int) -> None:
        os.write(log, (json.dumps(what) + "\n").encode())

    for job in jobs:
        draft = store.draft(ingest_step(f"job {job}"))
        draft.homes = [draft.step.output]
        draft.put("examples", examples([f"writer {writer} row {row}" for row in range(3)], f"job {job}"))
        base = store.commit(draft)
        acknowledged(ref=str(base.ref), commit=base.commit_id)
        draft = store.draft(filter_step(base.ref))
        draft.homes, draft.rules = [base.ref], [SHORT]
        draft.put("verdicts/pool", pl.DataFrame({"fate": [0, 1, 0], "rule": [0, 1, 0]}))
        draft.put("members", pl.DataFrame({"home": [0, 0], "row": [0, 2]}))
        kept = store.commit(draft)
        acknowledged(ref=str(kept.ref), commit=kept.commit_id)
        tag = store.tag(f"tag-{job % 3}", kept.ref)
        acknowledged(tag=tag.name, number=tag.number, ref=str(tag.ref))
    os.close(log)


def start(root: Path, writer: int, jobs: list[int], acks: Path, failpoint: str | None = None):
    """The writer as a process."""
    process = CONTEXT.Process(target=write, args=(root, writer, jobs, acks, failpoint))
    process.start()
    return process


@dataclass
class History:
    """What the acknowledgements say against what the store holds."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return self.lost + self.duplicated + self.gaps + self.unsound


def check(root: Path, acks: Path) -> History:
    """Every acknowledgement is in the store, no step has two results, no tag a gap, and everything is sound."""
    store = Store.open(root, create=False)
    history = History()
    results: dict[str, set[str]] = {}
    for line in acks.read_text().splitlines():
        ack = json.loads(line)
        history.acknowledged += 1
        if "tag" in ack:
            held = [v for v in store.tag_history(ack["tag"]) if v.number == ack["number"] and str(v.ref) == ack["ref"]]
            if len(held) != 1:
                history.lost.append(f"{ack['tag']}@v{ack['number']}")
        else:
            results.setdefault(ack["ref"], set()).add(ack["commit"])
            found = store.lookup(DatasetRef.parse(ack["ref"]))
            if found is None or found.commit_id != ack["commit"]:
                history.lost.append(ack["ref"])
    history.duplicated = [ref for ref, commits in results.items() if len(commits) > 1]
    for tag in store.tags():
        versions = store.tag_history(tag.name)
        if [version.number for version in versions] != list(range(1, len(versions) + 1)):
            history.gaps.append(tag.name)
    history.unsound = [f"{finding.place}: {finding.problem}" for finding in store.verify()]
    return history


def storm(root: Path, acks: Path, *, writers: int, jobs: int, kills: int, rng: random.Random) -> int:
    """Several writers over overlapping jobs in orders of their own; ``kills`` times a running one is killed and begins
    again from its first job. Returns the number of kills that hit a running process.
    """
    orders = [rng.sample(range(jobs), jobs) for _ in range(writers)]
    running = [start(root, writer, order, acks) for writer, order in enumerate(orders)]
    hits = 0
    for _ in range(kills):
        victim = rng.randrange(writers)
        running[victim].join(timeout=rng.uniform(0.02, 0.25))
        if running[victim].is_alive():
            running[victim].kill()
            hits += 1
        running[victim].join()
        running[victim] = start(root, victim, orders[victim], acks)
    for process in running:
        process.join()
    failed = [process.exitcode for process in running if process.exitcode != 0]
    if failed:
        raise RuntimeError(f"writers ended with {failed}")
    return hits
