"""Eight writers at once on a server that stumbles, and writers that are killed in the middle of a request."""

import os
import random
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from storage.store import Store
from tests.storage import s3_writers
from tests.storage.making import ingest, ingest_step
from tests.storage.s3_client import WHERE, s3_environment
from tests.storage.s3_server import S3, Fault
from tests.storage.writers import check


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[S3, None, None]:
    with s3_environment(tmp_path / "home") as server:
        monkeypatch.setenv("PROVENDER_S3_TIMEOUT", "5")
        yield server


def test_eight_processes_on_a_stumbling_server_lose_and_tear_nothing(s3: S3, tmp_path: Path) -> None:
    s3.faults = [
        Fault("500", where="steps/", times=50, every=7),
        Fault("applied 500", where="steps/", times=50, every=11),
        Fault("409", where="tags/", times=50, every=5),
        Fault("applied drop", where="tags/", times=50, every=13),
        Fault("503", where="objects/", times=50, every=9),
        Fault("applied drop", where="objects/", times=50, every=17),
        Fault("drop", method="GET", where="steps/", times=50, every=19),
        Fault("503", method="HEAD", times=50, every=23),
    ]
    acks = tmp_path / "acks"
    acks.touch()
    rng = random.Random(7)
    running = [s3_writers.start(WHERE, writer, rng.sample(range(6), 6), acks) for writer in range(8)]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 8
    assert sum(50 - fault.times for fault in s3.faults) > 40, "the server hardly stumbled"
    s3.faults = []
    history = check(Path(WHERE), acks)
    assert history.acknowledged == 8 * 6 * 3
    assert history.violations == []
    assert len(list(Store.open(WHERE).versions())) == 12, "two steps a job, whoever won"


@pytest.mark.parametrize("amid", ["objects/", "steps/"])
def test_a_writer_killed_amid_an_upload_leaves_nothing_that_is_seen(s3: S3, tmp_path: Path, amid: str) -> None:
    Store.open(WHERE)
    fault = Fault("stall", where=amid)
    s3.faults = [fault]
    acks = tmp_path / "acks"
    process = s3_writers.start(WHERE, 0, [0], acks)
    assert fault.reached.wait(30)
    process.kill()
    process.join()
    assert not [key for key in s3.objects if key.startswith(f"team/store/{amid}")]
    store = Store.open(WHERE)
    assert list(store.versions()) == []
    assert store.lookup(ingest_step("job 0").output) is None
    assert store.verify() == []
    again = s3_writers.start(WHERE, 0, [0], acks)
    again.join()
    assert again.exitcode == 0
    assert check(Path(WHERE), acks).violations == []


def test_a_writer_killed_before_it_heard_of_its_success_is_rejoined(s3: S3, tmp_path: Path) -> None:
    Store.open(WHERE)
    reached, go = threading.Event(), threading.Event()

    def pause(method: str, key: str) -> None:
        if method == "HEAD" and "leaving/steps/ingest" in key and not reached.is_set():
            reached.set()
            go.wait(30)

    s3.before = pause
    acks = tmp_path / "acks"
    process = s3_writers.start(WHERE, 0, [0], acks)
    assert reached.wait(30)
    process.kill()
    process.join()
    go.set()
    s3.before = None
    assert acks.read_text() == "", "nothing was acknowledged"
    [there] = Store.open(WHERE).versions()
    draft = Store.open(WHERE).draft(ingest_step("job 0"))
    assert there.ref == draft.step.output
    again = s3_writers.start(WHERE, 1, [0], acks)
    again.join()
    assert again.exitcode == 0
    found = Store.open(WHERE).describe(there.ref)
    assert found.commit_id == there.commit_id, "the first durable result wins"
    assert check(Path(WHERE), acks).violations == []


def test_a_large_object_killed_between_its_pieces_is_not_there(s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(2**20) * 40)
    fault = Fault("stall", where="objects/large", every=3)
    s3.faults = [fault]
    process = s3_writers.start_put(WHERE, file)
    assert fault.reached.wait(30)
    process.kill()
    process.join()
    assert s3.seen["POST"] == 1, "it was not sent in pieces"
    assert not [key for key in s3.objects if "large" in key]
    s3.faults = []
    again = s3_writers.start_put(WHERE, file)
    again.join()
    assert again.exitcode == 0
    assert s3.objects["team/store/objects/large"].data == file.read_bytes()


def test_a_server_that_goes_away_is_an_error_and_the_same_command_goes_on(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    from schemas.errors import StoreUnreachable

    monkeypatch.setenv("PROVENDER_S3_TIMEOUT", "1")
    store = Store.open(WHERE)
    s3.faults = [Fault("drop", method=method, times=10**6) for method in ("PUT", "GET", "HEAD")]
    with pytest.raises(StoreUnreachable, match="does not answer"):
        ingest(store, ["a"])
    s3.faults = []
    assert ingest(store, ["a"]).counts.rows_out == 1
