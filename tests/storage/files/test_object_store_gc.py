"""Collecting garbage in a bucket: a writer and a collector in every interleaving, and collectors that are killed."""

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import StoreError
from schemas.lineage import DatasetRef
from storage import manifests
from storage.files import marks
from storage.files.object_store import ObjectStoreFileSystem
from storage.gc import GcPlan, GcReport
from storage.store import Store
from tests.storage.making import answers, filter_step, ingest, ingest_step, keep_where
from tests.storage.s3_client import WHERE, s3_environment
from tests.storage.s3_server import S3
from tests.storage.test_simcrash import MARKS

MONTH = 30 * 86_400.0


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[S3, None, None]:
    monkeypatch.setattr(marks, "_WAITS", 0.0)
    with s3_environment(tmp_path / "home") as server:
        yield server


def opened(least_age: float = 0.0) -> Store:
    store = Store.open(WHERE)
    assert isinstance(store.disk.fs, ObjectStoreFileSystem)
    store.disk.fs.least_age = least_age
    return store


def old_garbage(s3: S3) -> tuple[DatasetRef, DatasetRef, GcPlan]:
    """A tagged chain, an untagged chain a month old, and the plan to collect the latter."""
    store = opened()
    base = ingest(store, ["a", "bbb"])
    kept = keep_where(store, base.ref, [False, True])
    store.tag("demo", kept.ref)
    loose = ingest(store, ["zz", "yyy"], "loose")
    keep_where(store, loose.ref, [True, True])
    s3.age(MONTH)
    plan = store.gc_plan()
    assert len(plan.versions) == 2
    return kept.ref, loose.ref, plan


def test_what_no_tag_reaches_goes_from_the_bucket_and_the_cache(s3: S3) -> None:
    kept, loose, plan = old_garbage(s3)
    store = opened()
    objects = {key for key in s3.objects if "/objects/" in key and "/used/" not in key}
    report = store.gc_execute(plan.plan_id)
    assert len(report.versions) == 2
    assert report.freed_bytes == plan.freed_bytes > 0
    left = {key for key in s3.objects if "/objects/" in key and "/used/" not in key}
    assert len(objects) - len(left) == len(report.objects) > 0
    assert len(list((store.root / "objects").glob("??/*"))) == len(left)
    assert answers(store.pool(kept)) == ["bbb"]
    assert store.lookup(loose) is None
    assert store.verify() == []
    assert not [key for key in s3.objects if "/leaving/" in key]


def test_nothing_younger_than_half_an_hour_goes_whatever_was_asked(s3: S3) -> None:
    loose = ingest(opened(), ["zz"], "loose")
    store = opened(least_age=1800.0)
    assert store.gc_execute(store.gc_plan(0, 0)).versions == ()
    s3.age(1900)
    assert store.gc_execute(store.gc_plan(0, 0)).versions == (loose.ref,)


def test_using_something_makes_it_young(s3: S3) -> None:
    _kept, loose, plan = old_garbage(s3)
    assert opened().lookup(filter_step(loose).output) is not None
    report = opened().gc_execute(plan)
    assert report.versions == ()
    assert report.spared > 0
    assert opened().verify() == []


def test_what_was_read_before_a_collection_is_not_taken_for_what_came_after(s3: S3) -> None:
    """A step is computed anew after its version was collected, with another result; nobody builds on the old one."""
    _kept, loose, plan = old_garbage(s3)
    reader = opened()
    old = reader.describe(loose)
    assert loose in opened().gc_execute(plan).versions
    new = ingest(opened(), ["zz", "xxx"], "loose")
    assert new.ref == loose
    assert new.commit_id != old.commit_id
    found = reader.lookup(loose)
    assert found is not None
    assert found.commit_id == new.commit_id


def write() -> list[DatasetRef]:
    """Joins a version that is about to go, filters it in a new and in the old way, and tags the result."""
    store = opened()
    loose = ingest(store, ["zz", "yyy"], "loose")
    kept = keep_where(store, loose.ref, [False, True], at_least=2)
    store.tag("late", kept.ref)
    same = store.lookup(filter_step(loose.ref).output) or keep_where(store, loose.ref, [True, True])
    store.tag("same", same.ref)
    return [loose.ref, kept.ref, same.ref]


def look_up() -> list[DatasetRef]:
    """Finds the end of the old chain and builds on it, touching nothing else of the chain first."""
    store = opened()
    same = store.lookup(filter_step(ingest_step("loose").output).output)
    if same is None:
        return write()
    more = keep_where(store, same.ref, [True, False], at_least=5)
    store.tag("more", more.ref)
    return [same.ref, more.ref]


def interrupted(s3: S3, at: int, job: Callable[[], object], other: Callable[[], object]) -> bool:
    """Runs ``job``, and ``other`` whole before its request number ``at``. False if ``job`` makes fewer.

    Only requests that change something, and the looks at single names on which changes are decided, are counted.
    """
    seen = 0

    def pause(method: str, key: str) -> None:
        nonlocal seen
        seen += method != "GET"
        if seen == at and method != "GET":
            s3.before = None
            other()

    s3.before = pause
    try:
        job()
    finally:
        s3.before = None
    return seen >= at


def acknowledged(job: Callable[[], list[DatasetRef]], refs: list[DatasetRef]) -> None:
    """What the job was acknowledged; a typed refusal is allowed."""
    try:
        refs += job()
    except StoreError:
        return


@pytest.mark.parametrize("job", [write, look_up])
@pytest.mark.parametrize("who", ["collector in a writer", "writer in a collector"])
def test_whoever_comes_between_nothing_acknowledged_is_lost(
    s3: S3, job: Callable[[], list[DatasetRef]], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MARKS.put(monkeypatch)
    known: set[int] = set()  # equal ends are looked at once
    _kept, _loose, plan = old_garbage(s3)
    start = {key: replace(kept) for key, kept in s3.objects.items()}
    checker = opened()
    first, stride = (
        (1, 1) if who == "collector in a writer" else (1 + (job is write), 2)
    )  # each job half of the moments
    for at in range(first, 400, stride):
        s3.objects.clear()
        s3.objects.update({key: replace(kept) for key, kept in start.items()})
        MARKS.begin(1)
        refs: list[DatasetRef] = []
        reports: list[GcReport] = []

        def collect(plan: GcPlan = plan, reports: list[GcReport] = reports) -> None:
            reports.append(opened().gc_execute(plan))

        def writer(refs: list[DatasetRef] = refs) -> None:
            acknowledged(job, refs)

        jobs = (writer, collect) if who == "collector in a writer" else (collect, writer)
        reached = interrupted(s3, at, *jobs)
        there = {str(ref) for ref in manifests.refs(checker.disk)}
        assert {str(ref) for ref in refs} <= there, at
        end = hash((frozenset((key, kept.data) for key, kept in s3.objects.items()), *map(str, refs)))
        if end not in known:
            assert checker.verify(deep=False) == [], at
            MARKS.begin(2)
            assert len(job()) > 1, "a rerun succeeds"
            known.add(end)
        if not reached:
            assert at > 10
            return
    raise AssertionError("the job never ended")


def test_what_a_killed_collector_announced_holds_writers_up_and_is_forgotten_in_an_hour(s3: S3) -> None:
    store = opened()
    base = ingest(store, ["a", "bbb"])
    key = f"steps/{base.ref.stage}/{base.ref.fingerprint}.json"
    fs = store.disk.fs
    assert isinstance(fs, ObjectStoreFileSystem)
    fs.bucket.create(f"leaving/{key}", b"killed here")
    with pytest.raises(StoreError, match="being collected by a `provender gc` that stands still"):
        opened().lookup(base.ref)
    s3.objects[f"team/store/leaving/{key}"].modified = time.time() - marks.FORGOTTEN_AFTER - 60
    assert opened().lookup(base.ref) is not None
    assert f"team/store/leaving/{key}" not in s3.objects


def test_two_collectors_never_remove_what_one_of_them_has_announced(s3: S3) -> None:
    _kept, loose, plan = old_garbage(s3)
    reports: list[GcReport] = []
    for at in range(1, 200):
        if not interrupted(
            s3, at, lambda: reports.append(opened().gc_execute(plan)), lambda: reports.append(opened().gc_execute(plan))
        ):
            break
    gone = [ref for report in reports for ref in report.versions]
    assert sorted(map(str, gone)) == sorted(map(str, plan.versions))
    assert opened().lookup(loose) is None
