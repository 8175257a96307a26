"""A writer and a collector at the same time, in every interleaving of one with a pause of the other.

The collector runs whole between any two operations of the writer, and the writer between any two of the collector. What
the writer was acknowledged is there and sound; if it is refused, then with a typed error, and a rerun succeeds.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import StoreError
from storage.gc import GcPlan
from storage.store import Store
from tests.storage.making import filter_step, ingest, ingest_step, keep_where
from tests.storage.simulated_fs import Inode, SimulatedFileSystem, copied, shown
from tests.storage.test_simcrash import MARKS, ROOT, Acks, broken, disk

MONTH = 30 * 86_400


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    MARKS.put(monkeypatch)


def old_garbage() -> tuple[SimulatedFileSystem, Acks, GcPlan]:
    """A tagged chain, an untagged chain a month old, and a plan to collect the latter."""
    fs, acks = disk(), Acks()
    store = Store.open(ROOT, fs=fs)
    base = ingest(store, ["a", "bbb"])
    acks.tags.append(store.tag("demo", base.ref))
    acks.versions.append(base)
    loose = ingest(store, ["zz", "yyy"], "loose")
    keep_where(store, loose.ref, [True, True])
    _age(fs.root)
    plan = store.gc_plan()
    assert len(plan.versions) == 2
    return fs, acks, plan


def _age(inode: Inode) -> None:
    inode.mtime -= MONTH
    for child in inode.names.values():
        _age(child)


def write(fs: SimulatedFileSystem, acks: Acks) -> None:
    """Joins a version that is about to go, filters it in a new and in the old way, and tags the result."""
    store = Store.open(ROOT, fs=fs)
    loose = ingest(store, ["zz", "yyy"], "loose")
    kept = keep_where(store, loose.ref, [False, True], at_least=2)
    acks.versions += [loose, kept]
    acks.tags.append(store.tag("late", kept.ref))
    same = store.lookup(filter_step(loose.ref).output) or keep_where(store, loose.ref, [True, True])
    acks.versions.append(same)
    acks.tags.append(store.tag("same", same.ref))


def look_up(fs: SimulatedFileSystem, acks: Acks) -> None:
    """Finds the end of the old chain and builds on it, touching nothing else of the chain first."""
    store = Store.open(ROOT, fs=fs)
    same = store.lookup(filter_step(ingest_step("loose").output).output)
    if same is None:
        write(fs, acks)
        return
    more = keep_where(store, same.ref, [True, False], at_least=5)
    acks.versions += [same, more]
    acks.tags.append(store.tag("more", more.ref))


def interrupted(fs: SimulatedFileSystem, at: int, job: Callable[[], None], other: Callable[[], None]) -> bool:
    """Runs ``job``, and ``other`` whole before its operation number ``at``. False if ``job`` has fewer."""
    seen = 0

    def pause(op: str, path: Path) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            fs.before = lambda op, path: None
            other()

    fs.before = pause
    try:
        job()
    finally:
        fs.before = lambda op, path: None
    return seen >= at


def collect(fs: SimulatedFileSystem, plan: GcPlan) -> None:
    Store.open(ROOT, fs=fs).gc_execute(plan)


def after(fs: SimulatedFileSystem, acks: Acks) -> list[str]:
    """What is broken now, or after the writer ran once more."""
    found = broken(Store.open(ROOT, fs=fs), acks)
    again = acks.copy()
    MARKS.begin(2)
    write(fs, again)
    return found + broken(Store.open(ROOT, fs=fs), again)


def every_pause(first: str, work: Callable[[SimulatedFileSystem, Acks], None]) -> tuple[int, int]:
    """Number of interleavings and of refusals; asserts that none broke a promise. Equal ends are looked at once."""
    start, promised, plan = old_garbage()
    at, refused, known = 0, 0, dict[int, list[str]]()
    while True:
        at += 1
        fs, acks = SimulatedFileSystem(copied(start.root)), promised.copy()
        MARKS.begin(1)

        def writer(fs: SimulatedFileSystem = fs, acks: Acks = acks) -> None:
            nonlocal refused
            try:
                work(fs, acks)
            except StoreError:
                refused += 1

        def collector(fs: SimulatedFileSystem = fs) -> None:
            collect(fs, plan)

        job, other = (writer, collector) if first == "writer" else (collector, writer)
        if not interrupted(fs, at, job, other):
            return at - 1, refused
        key = hash((tuple(shown(fs.root)), *(m.commit_id for m in acks.versions), *(str(t) for t in acks.tags)))
        if key not in known:
            known[key] = after(fs, acks)
        assert known[key] == [], f"{first} paused before its operation {at}"


@pytest.mark.parametrize("work", [write, look_up])
def test_a_collector_between_any_two_operations_of_a_writer_takes_nothing_it_was_promised(work) -> None:
    pauses, refused = every_pause("writer", work)
    print(f"\n{pauses} interleavings, the writer was refused in {refused}")
    assert pauses > 25
    assert refused <= 3, "refusal is the exception: nearly every interleaving lets both finish"


@pytest.mark.parametrize("work", [write, look_up])
def test_a_writer_between_any_two_operations_of_a_collector_keeps_what_it_was_promised(work) -> None:
    pauses, refused = every_pause("collector", work)
    print(f"\n{pauses} interleavings, the writer was refused in {refused}")
    assert pauses >= 10
    assert refused <= 3
