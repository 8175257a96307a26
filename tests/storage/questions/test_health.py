"""Health of a store and the receipt of a version: what is damaged, left, collectable and at work is named, nothing changes."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.errors import MissingDataset
from schemas.lineage import Manifest
from storage.layout import manifest_path
from storage.questions.health import health
from storage.questions.receipt import receipt
from storage.runs import RunLog, new_run_id, now
from storage.store import Store
from tests.storage.making import ingest, keep_where
from tests.storage.test_gc import aged, chains


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def everything(store: Store) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    files = [path for path in store.root.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def broken(store: Store, manifest: Manifest, *, keep_length: bool) -> str:
    """Damages the first object of a version; its digest."""
    part = next(iter(manifest.parts.values()))[0]
    path = store.disk.object_path(part.sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data) if keep_length else bytes(data[:-9]))
    return part.sha256


def test_a_sound_store_is_sound_and_looking_changes_nothing(store: Store) -> None:
    chains(store)
    before = everything(store)
    told = health(store)
    assert everything(store) == before
    assert told.checked == "files"
    assert (told.troubles, told.hurt, told.leftovers, told.runs, told.unknown) == ((), (), (), (), ())
    assert told.versions == 4
    assert {use.name for use in told.use} >= {"objects", "steps", "tags", "FORMAT"}
    objects = next(use for use in told.use if use.name == "objects")
    assert (objects.files, objects.bytes) == (told.objects, sum(v[0] for k, v in before.items() if "/objects/" in k))


def test_a_changed_byte_is_found_only_when_every_byte_is_read_and_the_page_says_which(store: Store) -> None:
    base, kept, _other, _loose = chains(store)
    broken(store, base, keep_length=True)
    assert health(store, "structure").troubles == ()
    told = health(store, "all")
    assert [one.ref for one in told.hurt] == [str(base.ref)]
    assert "have the digest" in told.troubles[0].problem
    assert str(kept.ref) not in {one.ref for one in told.troubles}


def test_a_damaged_and_a_half_deleted_version_are_named_with_their_tags(store: Store) -> None:
    base, kept, other, _loose = chains(store)
    broken(store, other, keep_length=False)
    manifest_path(store.root, kept.ref).write_text("{")
    told = health(store)
    assert {one.ref: (one.tags, one.rows) for one in told.hurt}[str(other.ref)] == ((), 2)
    assert {one.ref: (one.tags, one.rows) for one in told.hurt}[str(kept.ref)] == (("demo@v1",), None)
    assert told.versions == 4
    assert told.collectable.refused, "what an unreadable manifest needs cannot be known"
    manifest_path(store.root, kept.ref).unlink()
    (gone,) = [one for one in health(store).troubles if one.tag]
    assert (gone.tag, gone.ref) == ("demo@v1", None)
    assert "is gone" in gone.problem
    assert store.describe(base.ref)


def test_what_gc_would_remove_is_what_it_then_plans(store: Store) -> None:
    _base, _kept, other, loose = chains(store)
    aged(store, 30)
    told = health(store).collectable
    assert not (store.root / "gc").exists(), "a preview is not written down"
    plan = store.gc_plan()
    assert {one.ref for one in told.versions} == {str(ref) for ref in plan.versions} == {str(other.ref), str(loose.ref)}
    assert told.rows == 4
    assert (told.objects, told.freed_bytes) == (len(plan.objects), plan.freed_bytes)
    assert told.orphans == 0
    assert all(29.9 < one.unused_days < 30.1 for one in told.versions)


def test_leftovers_say_whether_their_writer_lives_and_whether_gc_takes_them(store: Store) -> None:
    ingest(store, ["a"])
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    mine = store.disk.temporary(".object")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{child.pid}-"))
    for path in (mine, dead):
        path.write_bytes(b"half")
    then = time.time() - 2 * 86_400
    os.utime(dead, (then, then))
    (store.disk.root / "tmp" / "other-host-12-0123456789abcdef.json").write_bytes(b"{")
    told = {one.name.removeprefix("tmp/"): one for one in health(store).leftovers}
    assert (told[mine.name].writer, told[mine.name].collected, told[mine.name].bytes) == ("alive", False, 4)
    assert (told[dead.name].writer, told[dead.name].collected, told[dead.name].kind) == ("gone", True, "object")
    assert told["other-host-12-0123456789abcdef.json"].writer == "unknown"


def test_a_run_whose_process_is_gone_is_dead_here_and_not_marked(store: Store) -> None:
    lives = RunLog(store.root, "demo", "curate", new_run_id())
    other = RunLog(store.root, "demo", "curate", "20260101-000000-aaaaaa")
    other.run = other.run.model_copy(update={"process_started": 1.0, "started_at": "2026-01-01T00:00:00Z"})
    other._save()
    far = RunLog(store.root, "demo", "curate", "20250101-000000-bbbbbb")
    far.run = far.run.model_copy(update={"host": "elsewhere", "started_at": "2025-01-01T00:00:00Z"})
    far._save()
    done = RunLog(store.root, "demo", "curate", "20240101-000000-cccccc")
    done.end("completed")
    before = everything(store)
    told = health(store)
    assert everything(store) == before, now()
    assert [(one.run_id, one.life) for one in told.runs] == [
        (lives.run.run_id, "at work"), (other.run.run_id, "dead"), (far.run.run_id, "elsewhere"),
    ]  # fmt: skip


def test_a_receipt_has_the_digests_that_the_files_have(store: Store) -> None:
    base = ingest(store, ["a", "bbb"])
    kept = keep_where(store, base.ref, [False, True])
    store.tag("demo", kept.ref)
    told = receipt(store, "demo@v1")
    path = manifest_path(store.root, kept.ref)
    assert told.manifest_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (told.digest, told.seal, told.rows) == (kept.digest, kept.seal, 1)
    assert [(one.role, one.ref, one.digest) for one in told.origins] == [("pool", str(base.ref), base.digest)]
    assert {one.state for one in told.files} == {"there"}
    deep = receipt(store, kept.ref, deep=True)
    assert {one.state for one in deep.files} == {"whole"}
    assert deep.problems == ()
    for one in deep.files:
        assert hashlib.sha256(Path(one.place).read_bytes()).hexdigest() == one.sha256


def test_a_receipt_of_a_damaged_version_says_which_file(store: Store) -> None:
    base = ingest(store, ["a", "bbb"])
    sha256 = broken(store, base, keep_length=True)
    assert receipt(store, base.ref).damaged == 0
    deep = receipt(store, base.ref, deep=True)
    assert [one.sha256 for one in deep.files if one.state == "damaged"] == [sha256]
    store.disk.object_path(sha256).unlink()
    assert receipt(store, base.ref).files[0].problem == "the object is gone"


def test_a_receipt_of_what_is_no_manifest_says_so_and_of_nothing_is_refused(store: Store) -> None:
    base = ingest(store, ["a"])
    kept = keep_where(store, base.ref, [True])
    manifest_path(store.root, base.ref).write_text("{")
    told = receipt(store, base.ref)
    assert not told.sound_manifest
    assert "is no manifest" in told.problems[0].problem
    (origin,) = receipt(store, kept.ref).origins
    assert not origin.there
    manifest_path(store.root, base.ref).unlink()
    with pytest.raises(MissingDataset, match="no longer in this store"):
        receipt(store, base.ref)
