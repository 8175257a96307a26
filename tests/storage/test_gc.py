"""Collecting garbage: what a tag reaches stays, what is young or in use stays, and a writer at the same time is safe."""

import os
import time
from pathlib import Path

import pytest

from schemas.errors import CorruptStore, MissingDataset
from schemas.lineage import Manifest
from storage.layout import manifest_path
from storage.store import Store
from tests.storage.making import answers, examples, ingest, ingest_step, keep_where

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def aged(store: Store, days: float, *folders: str) -> None:
    """Everything in the store as if it had last been used that long ago."""
    then = time.time() - days * DAY
    for folder in folders or ("objects", "steps", "shards", "tmp", "tags"):
        for path in (store.root / folder).rglob("*"):
            os.utime(path, (then, then))


def chains(store: Store) -> tuple[Manifest, Manifest, Manifest, Manifest]:
    """Two chains of an ingest and a filter; only the first filter has a tag."""
    base, other = ingest(store, ["a", "bbb"]), ingest(store, ["zz", "yyy"], "other")
    kept, loose = keep_where(store, base.ref, [False, True]), keep_where(store, other.ref, [True, True])
    store.tag("demo", kept.ref)
    return base, kept, other, loose


def test_what_no_tag_reaches_goes_and_what_a_tag_reaches_stays(store: Store) -> None:
    base, kept, other, loose = chains(store)
    aged(store, 30)
    plan = store.gc_plan()
    assert {str(ref) for ref in plan.versions} == {str(other.ref), str(loose.ref)}
    assert plan.freed_bytes > 0
    assert len(list(store.versions())) == 4, "a plan removes nothing"
    report = store.gc_execute(plan)
    assert {str(ref) for ref in report.versions} == {str(other.ref), str(loose.ref)}
    assert report.freed_bytes == plan.freed_bytes
    assert report.spared == 0
    assert [m.ref for m in store.versions()] == [base.ref, kept.ref]
    assert answers(store.pool(kept.ref)) == ["bbb"]
    assert store.verify() == []


def test_every_version_of_a_tag_is_kept_not_only_the_newest(store: Store) -> None:
    _base, _kept, _other, loose = chains(store)
    store.tag("demo", loose.ref)
    aged(store, 30)
    assert store.gc_plan().versions == ()


def test_an_object_that_two_versions_share_stays_while_one_needs_it(store: Store) -> None:
    base = ingest(store, ["a", "bbb"])
    kept, same = keep_where(store, base.ref, [True, True]), keep_where(store, base.ref, [True, True], at_least=1)
    assert kept.parts == same.parts
    store.tag("demo", kept.ref)
    aged(store, 30)
    report = store.gc_execute(store.gc_plan())
    assert [str(ref) for ref in report.versions] == [str(same.ref)]
    assert report.objects == ()
    assert store.verify() == []


def test_what_is_younger_than_the_grace_period_is_never_removed(store: Store) -> None:
    chains(store)
    aged(store, 0.5)
    draft = store.draft(ingest_step("unfinished"))
    draft.put("examples", examples(["half done"]))
    assert store.gc_plan(keep_days=0, grace_hours=24).objects == ()
    old = store.gc_plan(keep_days=0, grace_hours=6)
    assert len(old.versions) == 2
    assert draft.parts["examples"][0].sha256 not in old.objects


def test_versions_within_the_retention_are_kept_without_a_tag(store: Store) -> None:
    chains(store)
    aged(store, 10)
    assert store.gc_plan(keep_days=14).versions == ()
    assert len(store.gc_plan(keep_days=7).versions) == 2


def test_using_a_version_keeps_it_and_all_it_came_from(store: Store) -> None:
    _base, _kept, other, loose = chains(store)
    aged(store, 30)
    again = keep_where(store, loose.ref, [True, False])
    assert store.gc_plan().versions == ()
    assert [m.ref for m in store.upstream(again.ref)] == [other.ref, loose.ref, again.ref]


def test_a_tag_set_after_the_plan_saves_its_version(store: Store) -> None:
    _base, _kept, _other, loose = chains(store)
    aged(store, 30)
    plan = store.gc_plan()
    store.tag("saved", loose.ref)
    report = store.gc_execute(plan)
    assert report.versions == report.objects == ()
    assert report.spared == len(plan.versions) + len(plan.objects)
    assert store.verify() == []


def test_a_writer_that_puts_the_same_bytes_after_the_plan_keeps_them(store: Store) -> None:
    _base, _kept, _other, _loose = chains(store)
    aged(store, 30)
    plan = store.gc_plan()
    draft = store.draft(ingest_step("other again"))
    draft.homes = [draft.step.output]
    draft.put("examples", examples(["zz", "yyy"], "other"))
    assert draft.parts["examples"][0].sha256 in plan.objects
    report = store.gc_execute(plan)
    assert draft.parts["examples"][0].sha256 not in report.objects
    made = store.commit(draft)
    assert answers(store.pool(made.ref)) == ["zz", "yyy"]
    assert store.verify() == []


def test_a_writer_that_comes_between_the_check_and_the_removal_keeps_its_bytes(store: Store) -> None:
    """The race itself: the object is used after gc looked at its age and before it is moved aside."""
    _base, _kept, other, _loose = chains(store)
    aged(store, 30)
    (path,) = store.paths(other.ref, "examples")

    class UsedInBetween(type(store.disk.fs)):
        def rename(self, source: Path, target: Path) -> None:
            if source == path:
                os.utime(path)
            super().rename(source, target)

    racing = Store.open(store.root, fs=UsedInBetween())
    report = racing.gc_execute(racing.gc_plan())
    assert path.name not in report.objects
    assert path.exists()
    assert os.listdir(store.root / "tmp") == []


def test_what_a_killed_collector_moved_aside_while_in_use_comes_back(store: Store) -> None:
    _base, kept, _other, _loose = chains(store)
    path = manifest_path(store.root, kept.ref)
    name = str(path.relative_to(store.root)).replace("/", "!")
    path.rename(store.root / "tmp" / f"{name}!00000000.aside")
    assert store.lookup(kept.ref) is None
    report = store.gc_execute(store.gc_plan())
    assert report.versions == ()
    assert store.lookup(kept.ref) == kept
    assert os.listdir(store.root / "tmp") == []


def test_receipts_of_unfinished_steps_hold_their_objects(store: Store) -> None:
    step = ingest_step("sharded")
    draft = store.draft(step)
    draft.put("examples", examples(["a"]))
    part = draft.parts["examples"][0]
    store.put_shard(step.output, 0, {"examples": [part.model_dump()]})
    aged(store, 10)
    assert store.gc_plan(keep_days=14).objects == ()
    aged(store, 30)
    plan = store.gc_plan(keep_days=14)
    assert plan.objects == (part.sha256,)
    assert plan.receipts == (f"{step.output.fingerprint}/00000000.json",)
    store.gc_execute(plan)
    assert store.shards(step.output) == {}


def test_temporary_files_of_killed_writers_are_swept_after_the_grace_period(store: Store) -> None:
    (store.root / "tmp" / "host-1-dead.object").write_bytes(b"half")
    assert store.gc_plan().temporary == ()
    aged(store, 2, "tmp")
    assert store.gc_execute(store.gc_plan()).temporary == ("host-1-dead.object",)


def test_nothing_goes_while_a_manifest_cannot_be_read(store: Store) -> None:
    _base, kept, _other, _loose = chains(store)
    aged(store, 30)
    manifest_path(store.root, kept.ref).write_bytes(b"\0" * 50)
    with pytest.raises(CorruptStore, match="is no manifest"):
        store.gc_plan()


def test_a_plan_is_a_file_that_a_later_command_executes_by_its_id(store: Store) -> None:
    chains(store)
    aged(store, 30)
    plan = store.gc_plan()
    assert (store.root / "gc" / f"{plan.plan_id}.json").exists()
    assert len(Store.open(store.root).gc_execute(plan.plan_id).versions) == 2
    with pytest.raises(CorruptStore, match="is no plan"):
        store.gc_execute("2020-01-01")


def test_a_step_on_a_version_that_was_collected_is_refused(store: Store) -> None:
    _base, _kept, _other, loose = chains(store)
    aged(store, 30)
    store.gc_execute(store.gc_plan())
    with pytest.raises(MissingDataset, match="cannot be tagged"):
        store.tag("late", loose.ref)
    with pytest.raises(MissingDataset, match="has no dataset"):
        keep_where(store, loose.ref, [True, True])


def test_an_old_plan_leaves_its_objects_to_a_version_that_a_later_one_was_made_from(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    base = ingest(store, ["a", "bbb"])
    aged(store, 30)
    plan = store.gc_plan()
    assert plan.versions == (base.ref,)
    later = keep_where(store, base.ref, [False, True])
    aged(store, 30)
    report = store.gc_execute(plan)
    assert (report.versions, report.objects) == ((), ())
    assert store.verify() == []
    assert answers(store.pool(later.ref)) == ["bbb"]
