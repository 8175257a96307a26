"""Real processes, real SIGKILL: at every failpoint of the protocol, and at random among concurrent writers."""

import random
import signal
from pathlib import Path

import pytest

from storage.files.failpoints import FAILPOINTS
from storage.store import Store
from tests.storage.writers import check, start, storm


@pytest.mark.parametrize("hit", [1, 3])
@pytest.mark.parametrize("place", FAILPOINTS)
def test_a_writer_killed_at_a_failpoint_is_finished_by_the_next_one(tmp_path: Path, place: str, hit: int) -> None:
    root, acks = tmp_path / "store", tmp_path / "acks"
    acks.touch()
    if place == "rejoined":  # passed only when someone else's result is there
        first = start(root, 0, [0, 1], acks)
        first.join()
        assert first.exitcode == 0
    killed = start(root, 1, [0, 1], acks, f"{place}:{hit}")
    killed.join()
    assert killed.exitcode == -signal.SIGKILL, "the failpoint was not reached"
    if (root / "FORMAT").exists():
        after_kill = check(root, acks)
        assert after_kill.violations == []
    successor = start(root, 2, [0, 1], acks)
    successor.join()
    assert successor.exitcode == 0
    history = check(root, acks)
    assert history.violations == []
    assert len(list(Store.open(root).versions())) == 4


def test_four_writers_with_random_kills_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    root, acks = tmp_path / "store", tmp_path / "acks"
    hits = storm(root, acks, writers=4, jobs=25, kills=20, rng=random.Random(7))
    history = check(root, acks)
    print(f"\n{history.acknowledged} acknowledgements, {hits} kills")
    assert history.violations == []
    assert hits >= 5, "the kills came too late to hit a running writer"
    store = Store.open(root)
    assert len(list(store.versions())) == 50
    assert {str(v.ref) for t in store.tags() for v in store.tag_history(t.name)} == {
        str(m.ref) for m in store.versions() if m.ref.stage == "filter"
    }
