"""A disk that is full, fails, or is read-only: a typed error with the way out, and a sound store afterwards."""

import errno
import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import StoreUnwritable
from storage.store import Store
from tests.forked import CONTEXT
from tests.storage.faulty_fs import FaultyFileSystem
from tests.storage.making import answers, ingest, keep_where

FULL = ("create", "write", "mkdir", "link")  # what needs room


def job(root: Path, fs: FaultyFileSystem | None = None) -> None:
    store = Store.open(root, fs=fs)
    base = ingest(store, ["a", "bbb", "cc"], batches=2)
    kept = keep_where(store, base.ref, [False, True, False])
    store.tag("demo", kept.ref)


def all_changes(tmp_path: Path, of: tuple[str, ...]) -> int:
    counting = FaultyFileSystem(of=of)
    job(tmp_path / "counted", counting)
    return counting.changes


def every_fault(tmp_path: Path, error: int, of: tuple[str, ...]) -> Iterator[tuple[int, Path, StoreUnwritable]]:
    """The job with this fault at its n-th change, for every n."""
    total = all_changes(tmp_path, of)
    assert total > 10
    for at in range(1, total + 1):
        root = tmp_path / f"{error}-{at}"
        with pytest.raises(StoreUnwritable) as caught:
            job(root, FaultyFileSystem(at, error, of))
        yield at, root, caught.value


def recovered(root: Path) -> None:
    """What is there is sound, and the same job finishes."""
    if (root / "FORMAT").exists():
        assert Store.open(root).verify() == []
    job(root)
    store = Store.open(root)
    assert store.verify() == []
    assert len(list(store.versions())) == 2
    assert answers(store.pool(store.resolve("demo@v1"))) == ["bbb"]


def test_a_disk_that_is_full_from_the_nth_write_on_leaves_a_sound_store_for_every_n(tmp_path: Path) -> None:
    for _, root, error in every_fault(tmp_path, errno.ENOSPC, FULL):
        assert "No space left on device; nothing was half-committed; free some space" in str(error)
        assert not (root / "tmp").exists() or os.listdir(root / "tmp") == []
        recovered(root)


def test_a_device_error_at_any_change_is_final_and_never_acknowledged(tmp_path: Path) -> None:
    of = ("write", "sync", "sync_dir", "rename", "link")
    for _, root, error in every_fault(tmp_path, errno.EIO, of):
        assert "Input/output error; nothing was half-committed; the device reports an I/O error" in str(error)
        recovered(root)


def test_a_real_file_size_limit_stops_the_commit_with_a_typed_error(tmp_path: Path) -> None:
    root, told = tmp_path / "store", tmp_path / "told"
    ingest(Store.open(root), ["a"], "before")
    process = CONTEXT.Process(target=_with_small_files, args=(root, told))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert "File too large; nothing was half-committed" in told.read_text()
    store = Store.open(root)
    assert store.verify() == []
    assert [manifest.step.content["source"] for manifest in store.versions()] == ["before"]


def _with_small_files(root: Path, told: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
    try:
        ingest(Store.open(root), [f"{i * i * 7919:x}" for i in range(500)], "large")
    except StoreUnwritable as error:
        told.write_text(str(error)[:900])


def test_a_read_only_store_can_be_read_and_refuses_commits(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in a folder that another user may not enter
        os.chmod(folder, 0o755)
        root, told = Path(folder) / "store", Path(folder) / "told"
        job(root)
        told.touch()
        told.chmod(0o666)
        places = [root, *root.rglob("*")]
        for path in places:
            path.chmod(0o555 if path.is_dir() else 0o444)
        process = CONTEXT.Process(target=_as_nobody, args=(root, told))
        process.start()
        process.join()
        for path in places:
            path.chmod(stat.S_IRWXU if path.is_dir() else 0o600)
        assert process.exitcode == 0
        assert told.read_text().splitlines()[0] == "['bbb'] 2 []"
        assert "Permission denied; nothing was half-committed; give this user write permission" in told.read_text()
        recovered(root)


def _as_nobody(root: Path, told: Path) -> None:
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    store = Store.open(root)
    found = store.lookup(store.resolve("demo"))
    assert found is not None
    lines = [f"{answers(store.pool(found.ref))} {len(list(store.versions()))} {store.verify()}"]
    try:
        ingest(store, ["new"], "new")
    except StoreUnwritable as error:
        lines.append(str(error))
    told.write_text("\n".join(lines))
