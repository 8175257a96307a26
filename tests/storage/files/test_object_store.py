"""A store on S3: the same versions as in a folder, whatever the server answers, and never two winners."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.errors import CorruptStore, MissingDataset, StoreUnreachable, StoreUnwritable
from storage.files.bucket import Bucket, Patience
from storage.files.glance import Glance, Known
from storage.files.object_store import ObjectStoreFileSystem
from storage.files.places import s3_place
from storage.reading import ReadingStore
from storage.store import Store
from tests.storage.making import answers, ingest, keep_where
from tests.storage.s3_server import BUCKET, KEY_ID, S3, SECRET, Fault, Kept, serving

QUICK = Patience(timeout=1.0, connect=1.0, retries=2, altogether=3.0)
WHERE = f"s3://{BUCKET}/team/store"


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[S3, None, None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path / "home"))
    with serving() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(s3: S3) -> Bucket:
    return quick()


def quick() -> Bucket:
    place = s3_place(WHERE)
    assert place is not None
    return Bucket(place, QUICK)


def chain(store: Store) -> list[str]:
    """An ingest, a filter of it and a tag: refs and digests."""
    base = ingest(store, ["a", "bbb", "cccc"], batches=2)
    kept = keep_where(store, base.ref, [False, True, True])
    tag = store.tag("team/demo", kept.ref)
    return [str(base.ref), base.digest, str(kept.ref), kept.digest, f"{tag.name}@v{tag.number}"]


def test_refs_and_digests_are_those_of_a_folder(s3: S3, tmp_path: Path) -> None:
    remote, local = Store.open(WHERE), Store.open(tmp_path / "store")
    assert chain(remote) == chain(local)
    for store in (remote, local):
        kept = store.resolve("team/demo@v1")
        assert answers(store.pool(kept)) == ["bbb", "cccc"]
        assert [m.step.stage for m in store.upstream(kept)] == ["ingest", "filter"]
        assert store.verify() == []


def test_the_record_is_in_the_bucket_and_another_machine_reads_it(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(Store.open(WHERE))
    monkeypatch.setenv("PROVENDER_HOME", os.environ["PROVENDER_HOME"] + "-of-another-machine")
    other = Store.open(WHERE, create=False)
    assert answers(other.pool(other.resolve("team/demo"))) == ["bbb", "cccc"]
    assert other.verify() == []
    folders = {key.removeprefix("team/store/").partition("/")[0] for key in s3.objects}
    assert folders <= {"FORMAT", "objects", "steps", "tags", "used"}


def test_a_store_is_copied_from_a_bucket_to_a_folder_and_back_byte_by_byte(s3: S3, tmp_path: Path) -> None:
    said = chain(Store.open(WHERE))
    for key, kept in s3.objects.items():
        target = tmp_path / "copy" / key.removeprefix("team/store/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(kept.data)
    copy = Store.open(tmp_path / "copy", create=False)
    assert chain(copy) == said
    more = ingest(copy, ["more"], "more")
    assert copy.verify() == []
    for path in (tmp_path / "copy").rglob("*"):
        if path.is_file():
            key = f"back/{path.relative_to(tmp_path / 'copy').as_posix()}"
            s3.objects[key] = Kept(path.read_bytes(), "", time.time())
    back = Store.open(f"s3://{BUCKET}/back", create=False)
    assert chain(back) == said
    assert answers(back.pool(more.ref)) == ["more"]
    assert back.verify() == []


def test_a_store_that_is_not_there_is_not_made_by_looking(s3: S3) -> None:
    with pytest.raises(MissingDataset, match=r"s3://bucket/team/store is no store"):
        Store.open(WHERE, create=False)
    assert s3.objects == {}


@pytest.mark.parametrize("how", ["409", "500", "503", "drop", "applied 500", "applied drop", "stall"])
def test_a_create_is_ours_once_whatever_the_server_answers(s3: S3, bucket: Bucket, how: str) -> None:
    s3.faults = [Fault(how, where="steps/")]
    assert bucket.create("steps/x.json", b"mine") is True
    assert s3.objects["team/store/steps/x.json"].data == b"mine"
    assert s3.faults[0].times == 0, "the fault never happened"
    s3.faults = [Fault(how, where="steps/")]
    assert bucket.create("steps/x.json", b"another's") is False
    assert s3.objects["team/store/steps/x.json"].data == b"mine"
    assert s3.faults[0].times == 0, "the fault never happened"


def test_a_create_that_stays_unknown_is_an_error_and_no_acknowledgement(s3: S3, bucket: Bucket) -> None:
    s3.faults = [Fault("500", where="steps/", times=10**6)]
    with pytest.raises(StoreUnreachable, match="nothing was half-committed"):
        bucket.create("steps/x.json", b"mine")
    assert "team/store/steps/x.json" not in s3.objects


def test_a_server_that_ignores_if_none_match_is_refused_at_open(s3: S3) -> None:
    chain(Store.open(WHERE))
    (next(Path(os.environ["PROVENDER_HOME"]).glob("s3/*/probe.json"))).unlink()
    s3.honours_if_none_match = False
    for create in (True, False):
        with pytest.raises(StoreUnwritable, match="ignores If-None-Match"):
            Store.open(WHERE, create=create)
    with pytest.raises(StoreUnwritable, match="ignores If-None-Match"):
        Store.open(f"s3://{BUCKET}/fresh")
    assert not [key for key in s3.objects if key.startswith("fresh/")]


def test_the_probe_is_remembered_for_a_day(s3: S3) -> None:
    Store.open(WHERE)
    puts = s3.seen["PUT"]
    Store.open(WHERE)
    assert s3.seen["PUT"] == puts
    noted = next(Path(os.environ["PROVENDER_HOME"]).glob("s3/*/probe.json"))
    noted.write_text(noted.read_text().replace('"at": ', '"at": -'))
    Store.open(WHERE)
    assert s3.seen["PUT"] > puts


def test_credentials_that_may_only_read_can_read_and_are_refused_by_name(s3: S3) -> None:
    base = ingest(Store.open(WHERE), ["a", "bbb"])
    (next(Path(os.environ["PROVENDER_HOME"]).glob("s3/*/probe.json"))).unlink()
    s3.read_only = True
    store = Store.open(WHERE)
    assert answers(store.pool(base.ref)) == ["a", "bbb"]
    assert store.lookup(base.ref) is not None
    with pytest.raises(StoreUnwritable, match=r"HTTP 403 AccessDenied"):
        ingest(store, ["more"], "more")


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_refused_credentials_are_an_error_that_does_not_repeat_them(
    s3: S3, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "wrong-and-secret")
    with pytest.raises(StoreUnreachable, match="refuses these credentials") as caught:
        Store.open(WHERE)
    error: BaseException | None = caught.value
    assert error.__suppress_context__
    for text in (KEY_ID, SECRET, "wrong-and-secret"):
        assert text not in str(error)


def test_no_credential_is_written_anywhere(s3: S3, tmp_path: Path) -> None:
    chain(Store.open(WHERE))
    written = [kept.data for kept in s3.objects.values()]
    written += [path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert len(written) > 8
    assert not [data for data in written if SECRET.encode() in data or KEY_ID.encode() in data]


def test_a_bucket_that_is_not_there_is_named(s3: S3) -> None:
    with pytest.raises(StoreUnreachable, match="there is no bucket elsewhere"):
        Store.open("s3://elsewhere/store")


def test_large_objects_travel_in_pieces_and_come_back_whole(
    s3: S3, bucket: Bucket, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("storage.files.bucket.PIECE", 2**20 * 5)
    data = os.urandom(2**20) * 12
    path = tmp_path / "file"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    bucket.put_file("objects/x", path, digest)
    assert s3.objects["team/store/objects/x"].etag.endswith('-3"')
    with (tmp_path / "back").open("wb") as sink:
        assert bucket.get_into("objects/x", sink, len(data)) == digest
    assert (tmp_path / "back").read_bytes() == data
    with pytest.raises(CorruptStore, match="changed while it was being sent"):
        bucket.put_file("objects/y", path, "0" * 64)
    assert "team/store/objects/y" not in s3.objects


def test_bytes_that_do_not_match_their_name_are_refused_and_found(s3: S3, tmp_path: Path) -> None:
    store = Store.open(WHERE)
    base = ingest(store, ["a", "bbb"])
    part = base.parts["examples"][0]
    key = f"team/store/objects/{part.sha256[:2]}/{part.sha256}"
    good = s3.objects[key].data
    s3.objects[key].data = bytes([good[0] ^ 1]) + good[1:]
    findings = store.verify()
    assert len(findings) == 1
    assert "not that of its name" in findings[0].problem
    (store.root / "objects" / part.sha256[:2] / part.sha256).unlink()
    with pytest.raises(CorruptStore, match="not that of its name"):
        store.pool(base.ref)


class LearntMeanwhile(Known):
    """Between the first question and the next, another thread reads everything."""

    def __init__(self, learn: Callable[[], object]) -> None:
        super().__init__()
        self.learn: Callable[[], object] | None = learn

    def tagged(self, key: str, tag: str) -> bytes | None:
        answer = super().tagged(key, tag)
        learn, self.learn = self.learn, None
        if learn is not None:
            learn()
        return answer


def test_what_another_thread_reads_meanwhile_is_not_read_again(s3: S3) -> None:
    base = ingest(Store.open(WHERE), ["a", "bbb"])
    disk = Store.open(WHERE).disk.glance("steps")
    fs = disk.fs
    assert isinstance(fs, ObjectStoreFileSystem)
    key = f"steps/{base.ref.stage}/{base.ref.fingerprint}.json"
    glance = Glance(fs, ("steps",))
    fs.known = LearntMeanwhile(lambda: fs.read_now(key))
    before = s3.seen["GET"]
    assert glance.read(key) == s3.objects[f"team/store/{key}"].data
    assert s3.seen["GET"] == before + 1


def test_many_threads_read_the_same_manifests_at_once(s3: S3) -> None:
    store = Store.open(WHERE)
    refs = [ingest(store, [f"row {number}"], f"n{number}").ref for number in range(6)]
    for _ in range(3):
        reader = ReadingStore(Store.open(WHERE))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda ref, reader=reader: reader.describe(ref).ref, refs * 8))
        assert found == refs * 8


def test_two_threads_that_commit_the_same_step_get_the_same_version(s3: S3) -> None:
    stores = [Store.open(WHERE), Store.open(WHERE)]
    results: list[str] = []

    def commit(number: int) -> None:
        results.append(ingest(stores[number], [f"writer {number}"], "same").commit_id)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert len(set(results)) == 1
