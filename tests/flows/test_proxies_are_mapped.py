"""Proxy runs are task runs of the flow's own task runner, and change nothing in the mixture that is found."""

from pathlib import Path

import pytest

from flows.optimise_mixture import optimise_mixture
from schemas.lineage import DatasetRef
from schemas.recipe import BackendChoices
from storage.store import Store
from tasks.events import Event, listening
from tests.tasks.test_proxies import METHOD, TUNER, gathered, measurements

pytestmark = pytest.mark.flow


def test_runs_mapped_over_threads_give_what_one_after_the_other_gives(prefect_server: None, tmp_path: Path) -> None:
    mapped, plain = tmp_path / "mapped", tmp_path / "plain"
    pool = gathered(tmp_path, mapped)
    assert gathered(tmp_path, plain) == pool
    backends = BackendChoices(tune=TUNER)
    heard: list[Event] = []
    with listening(heard.append):
        ref = optimise_mixture(pool, METHOD, store=mapped, backends=backends)
    assert optimise_mixture.fn(pool, METHOD, store=plain, backends=backends) == ref
    one, other = (Store.open(store).describe(DatasetRef.parse(ref)) for store in (mapped, plain))
    assert one.digest == other.digest
    assert measurements(mapped) == measurements(plain) == 18
    queue = [e for e in heard if e.kind == "progress" and e.total == 16]
    assert sorted(e.done for e in queue) == list(range(1, 17)), "12 pilots and 4 baseline runs, mapped"
    assert all("loss" in e.note for e in queue)
