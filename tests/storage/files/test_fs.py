"""The local file system's verbs: create-only by two mechanisms, private modes, no links followed, errors with a way out."""

import errno
import os
from pathlib import Path

import pytest

from schemas.errors import StoreUnwritable
from storage.files.fs import LocalFileSystem, Unsupported
from storage.files.objects import probe
from storage.store import Store
from tests.storage.making import answers, ingest


class NoLinks(LocalFileSystem):
    """As exFAT and some FUSE mounts are."""

    def link(self, source: Path, target: Path) -> None:
        raise Unsupported(errno.EPERM, "no hard links", str(target))


class NeitherNor(NoLinks):
    def rename_exclusive(self, source: Path, target: Path) -> None:
        raise Unsupported(errno.EINVAL, "no exclusive rename", str(target))


class Overwrites(LocalFileSystem):
    """Claims to link, and lets the second of two win, as some network mounts have."""

    def link(self, source: Path, target: Path) -> None:
        os.replace(source, target)


def new(fs: LocalFileSystem, path: Path, data: bytes) -> Path:
    sink = fs.create(path)
    sink.write(data)
    sink.sync()
    sink.close()
    return path


@pytest.mark.parametrize("move", ["link", "rename_exclusive"])
def test_a_name_is_created_once(tmp_path: Path, move: str) -> None:
    fs = LocalFileSystem()
    first, second = new(fs, tmp_path / "1", b"first"), new(fs, tmp_path / "2", b"second")
    getattr(fs, move)(first, tmp_path / "name")
    with pytest.raises(FileExistsError):
        getattr(fs, move)(second, tmp_path / "name")
    assert fs.read(tmp_path / "name") == b"first"
    assert fs.read(second) == b"second"
    with pytest.raises(FileNotFoundError):
        getattr(fs, move)(tmp_path / "absent", tmp_path / "other")


def test_a_new_file_is_private_and_never_a_link_that_was_laid_out(tmp_path: Path) -> None:
    fs = LocalFileSystem()
    (tmp_path / "trap").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        fs.create(tmp_path / "trap")
    assert not (tmp_path / "victim").exists()
    assert os.stat(new(fs, tmp_path / "file", b"x")).st_mode & 0o777 == 0o600
    fs.mkdir(tmp_path / "folder")
    assert os.stat(tmp_path / "folder").st_mode & 0o777 == 0o700


def test_without_hard_links_a_store_works_by_exclusive_rename_and_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", fs=NoLinks())
    assert '"create_only": "rename-exclusive"' in (tmp_path / "store" / "FORMAT").read_text()
    made = ingest(store, ["a"])
    assert ingest(store, ["a"]) == made
    assert store.tag("demo", made.ref).number == 1
    assert answers(Store.open(tmp_path / "store").pool(made.ref)) == ["a"]
    assert os.listdir(tmp_path / "store" / "tmp") == []


@pytest.mark.parametrize("fs", [NeitherNor(), Overwrites()], ids=["no such call", "it says it linked and overwrote"])
def test_where_two_writers_could_overwrite_each_other_no_store_is_made(tmp_path: Path, fs: LocalFileSystem) -> None:
    with pytest.raises(StoreUnwritable, match="two writers could overwrite each other; choose another store"):
        Store.open(tmp_path / "store", fs=fs)
    assert not (tmp_path / "store" / "FORMAT").exists()


def test_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    assert probe(LocalFileSystem(), tmp_path) == "link"
    assert probe(NoLinks(), tmp_path) == "rename-exclusive"
    assert list(tmp_path.iterdir()) == []


def test_a_path_through_a_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        StoreUnwritable, match=r"cannot make the folder .*file/store: Not a directory; nothing was half"
    ):
        Store.open(tmp_path / "file" / "store")
