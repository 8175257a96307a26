"""Addresses of stores and the cache beside a bucket: what is refused, what is kept, what goes first."""

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from schemas.errors import BadName, CorruptStore, MissingExtra, ProvenderError, UsageError
from storage.files.bucket import Bucket, Patience
from storage.files.cache import IN_USE_SECONDS, ObjectCache, bound_of_environment
from storage.files.places import S3Place, address, local_folder, s3_place, shown


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://data", "data", ""),
        ("s3://data/", "data", ""),
        ("s3://data/team/store", "data", "team/store"),
        (Path("s3://data/team/store/"), "data", "team/store"),
    ],
    ids=["bucket", "slash", "prefix", "as a path"],
)
def test_an_address_is_a_bucket_and_a_prefix(text: str | Path, bucket: str, prefix: str) -> None:
    assert s3_place(text) == S3Place(bucket, prefix, "")
    assert address(text) == shown(str(text).rstrip("/")) == f"s3://{bucket}/{prefix}".rstrip("/")


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    assert s3_place("store") is None
    assert local_folder(tmp_path / "x" / ".." / "store") == tmp_path / "store"
    assert shown("store") == "store"


def test_another_kind_of_address_does_not_become_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("gs://data/x", Path("gs://data/x"), "file:///tmp/x", Path("s3://"), Path("HTTPS://host/x")):
        with pytest.raises(BadName, match="is no place for a store; give a folder, or s3://bucket/prefix"):
            s3_place(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:" / "x").mkdir(parents=True)
    for text in ("odd:/x", "a:b/c", "./gs:/x", "c:/store"):  # what is there, no scheme, a drive
        assert s3_place(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("s3://", "no bucket name"),
        ("s3://UPPER/x", "no bucket name"),
        ("s3://a..b/x", "no bucket name"),
        ("s3://data/../x", "cannot be used"),
        ("s3://data/a//b", "cannot be used"),
        ("s3://data/a b", "cannot be used"),
        ("s3://data/x?y", "cannot be used"),
        ("s3://KEY:SECRET@data/x", "holds no credentials"),
    ],
)
def test_what_is_no_address_is_refused_and_no_credential_repeated(text: str, problem: str) -> None:
    with pytest.raises(BadName, match=problem) as caught:
        s3_place(text)
    assert "SECRET" not in str(caught.value)


def test_plain_http_needs_to_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    with pytest.raises(UsageError, match=r"in the clear.*AWS_ALLOW_HTTP=true"):
        s3_place("s3://data/x")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    with pytest.raises(UsageError, match="in the clear"):
        s3_place("s3://data/x")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert str(s3_place("s3://data/x")) == "s3://data/x"


@pytest.mark.parametrize("endpoint", ["https://KEY:SECRET@host", "ftp://SECRET-host", "host:9000"])
def test_an_endpoint_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(UsageError) as caught:
        s3_place("s3://data/x")
    assert "KEY:SECRET" not in str(caught.value)


def test_stores_of_other_endpoints_buckets_and_prefixes_have_folders_of_their_own(tmp_path: Path) -> None:
    places = [
        S3Place("one", "x", ""),
        S3Place("one", "y", ""),
        S3Place("two", "x", ""),
        S3Place("one", "x", "https://h"),
    ]
    assert len({place.folder() for place in places}) == 4
    assert all(place.folder().parent == tmp_path / "s3" for place in places)


def test_an_endpoint_without_credentials_is_told_before_anything_is_asked() -> None:
    with pytest.raises(UsageError, match="needs credentials; set AWS_ACCESS_KEY_ID"):
        Bucket(S3Place("data", "x", "https://storage.example"))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match=r"pip install 'provender\[s3\]'"):
        Bucket(S3Place("data", "x", ""))


@pytest.mark.parametrize(
    ("name", "value"),
    [("PROVENDER_S3_TIMEOUT", "soon"), ("PROVENDER_S3_TIMEOUT", "601"), ("PROVENDER_S3_CACHE_GIB", "nan")],
)
def test_a_setting_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        Patience.of_environment() if "TIMEOUT" in name else bound_of_environment()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetched(cache: ObjectCache, data: bytes, name: str | None = None) -> Path:
    def write(sink: IO[bytes]) -> str:
        sink.write(data)
        return digest_of(data)

    return cache.fetch(name or digest_of(data), write, "s3://data/x")


def test_a_copy_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    assert fetched(cache, b"bytes").read_bytes() == b"bytes"
    with pytest.raises(CorruptStore, match="not that of its name"):
        fetched(cache, b"others", digest_of(b"wanted"))

    def broken(sink: IO[bytes]) -> str:
        sink.write(b"half")
        raise ProvenderError("the connection ended")

    with pytest.raises(ProvenderError, match="the connection ended"):
        cache.fetch(digest_of(b"half and half"), broken, "s3://data/x")
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [b"bytes"]


def test_what_was_used_longest_ago_goes_first_and_nothing_that_is_in_use(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, most_bytes=350)
    blobs = [bytes([number]) * 100 for number in range(3)]
    paths = [fetched(cache, blob) for blob in blobs]
    for path, minutes in zip(paths, (30, 60, 0), strict=True):
        moment = time.time() - minutes * 60
        os.utime(path, (moment, moment))
    fetched(cache, b"d" * 100)
    assert [path.exists() for path in paths] == [True, False, True], "400 > 350: the one used an hour ago"
    assert cache.find(digest_of(blobs[0])) == paths[0], "now it is in use"
    for letter in b"efgh":
        fetched(cache, bytes([letter]) * 100)
    assert paths[0].exists(), "above the bound, but all used within the last quarter of an hour"
    past = time.time() - IN_USE_SECONDS - 1
    for path in tmp_path.glob("objects/??/*"):
        os.utime(path, (past, past))
    fetched(cache, b"i" * 100)
    left = sum(path.stat().st_size for path in tmp_path.glob("objects/??/*"))
    assert left == 300, "not above nine tenths of 350"


def test_the_cache_may_be_deleted(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    path = fetched(cache, b"bytes")
    path.unlink()
    path.parent.rmdir()
    assert cache.find(digest_of(b"bytes")) is None
    assert fetched(cache, b"bytes").read_bytes() == b"bytes"
