"""Two Ray workers on this machine: the refs of a local run, one cluster for all stages, a killed worker, GPUs by what needs them.

Opt-in (`make test-ray`, extra `ray`): starting clusters takes most of the time. test_shards_are_mapped.py has the short one.
"""

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import flow

from flows.curate import curation
from schemas.recipe import Recipe
from storage.store import Store
from tasks.bench import Bench, bench_of
from tasks.ingest import ingest
from tasks.judge import filter_examples
from tasks.runner import placed, uses_gpu, with_runner
from tasks.stage_task import stage_task
from tests.tasks.fakes_recipe import recipe

pytestmark = [
    pytest.mark.flow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        not os.environ.get("PROVENDER_TEST_RAY") or importlib.util.find_spec("prefect_ray") is None,
        reason="opt-in: PROVENDER_TEST_RAY=1, with the extra `ray`",
    ),
]


@pytest.fixture(autouse=True)
def no_cluster_left(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without a cluster, and leaves none."""
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    yield
    ray.shutdown()


@flow
def curated(made: Recipe, bench: Bench) -> str:
    """The whole table of contents of `curate`."""
    return str(curation(made, bench))


@flow
def filtered(made: Recipe, bench: Bench) -> str:
    """Ingest, then the first filter."""
    return str(filter_examples(ingest("rows", made.sources["rows"], bench), made.filter[0], bench))


def made_in(folder: Path, shard_rows: int, **changes: Any) -> tuple[Recipe, Bench]:
    folder.mkdir()
    made = recipe(folder, **changes)
    return made, bench_of(made, folder / "store").model_copy(update={"shard_rows": shard_rows})


def digests(store: Path) -> dict[str, str]:
    return {str(manifest.ref): manifest.digest for manifest in Store.open(store).versions()}


def test_a_whole_recipe_on_two_workers_has_the_refs_and_bytes_of_a_local_run_and_one_cluster(tmp_path: Path) -> None:
    import ray

    session = ray.init(num_cpus=2, include_dashboard=False).address_info["session_dir"]
    filters = [{"method": "heuristics"}, {"method": "license", "commercial": True}]
    on_ray, local = made_in(tmp_path / "ray", 20, filter=filters), made_in(tmp_path / "local", 20, filter=filters)
    ref = with_runner(curated, "ray")(*on_ray)
    store = Store.open(tmp_path / "ray" / "store")
    mapped = [manifest.step.method["method"] for manifest in store.versions() if store.shards(manifest.ref)]
    assert sorted(mapped) == ["heuristics", "license"], "two stages over one cluster"
    still = ray.init(ignore_reinit_error=True).address_info["session_dir"]
    assert still == session, "the cluster that was there is used, and left running"
    assert curated.fn(*local) == ref
    assert digests(tmp_path / "ray" / "store") == digests(tmp_path / "local" / "store")


def test_a_worker_killed_in_the_middle_costs_its_shard_only(tmp_path: Path) -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False)
    on_ray, local = made_in(tmp_path / "ray", 2), made_in(tmp_path / "local", 2)
    receipts = tmp_path / "ray" / "store" / "shards"
    killed: list[tuple[int, dict[Path, int]]] = []

    def kill_one() -> None:
        """When some shards are done: the receipts that were there, then SIGKILL for a process that judges."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            done = {path: path.stat().st_mtime_ns for path in receipts.rglob("*.json")}
            busy = [p for p in judging() if len(done) >= 5]
            if busy:
                busy[0].send_signal(signal.SIGKILL)
                killed.append((busy[0].pid, done))
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    ref = with_runner(filtered, "ray")(*on_ray)
    killer.join()
    ((pid, before),) = killed
    assert not psutil.pid_exists(pid)
    assert 5 <= len(before) < 52, "in the middle"
    after = {path: path.stat().st_mtime_ns for path in receipts.rglob("*.json")}
    assert len(after) == 52, "103 rows, two at a time"
    assert {path: after[path] for path in before} == before, "what was finished was not judged again"
    assert filtered.fn(*local) == ref
    assert digests(tmp_path / "ray" / "store") == digests(tmp_path / "local" / "store")


def judging() -> list[psutil.Process]:
    """Ray's worker processes of this test that run a shard at the moment; Ray names a process by its task."""
    found: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::judge"):
                found.append(process)
        except psutil.Error:  # it ended while we looked
            continue
    return found


@stage_task("where")
def where(number: int) -> list[Any]:
    """The GPUs that Ray gave this task."""
    import ray

    return [number, ray.get_gpu_ids()]


@flow
def placing() -> list[list[Any]]:
    """Two tasks that use a GPU, two that do not."""
    told: list[list[Any]] = []
    for on_gpu in (True, False):
        with placed(on_gpu=on_gpu):
            told += [future.result() for future in where.task.map([0, 1])]
    return told


def test_only_work_that_runs_a_model_itself_is_given_a_gpu() -> None:
    import ray

    from backends.llm.scripted import Scripted
    from backends.llm.transformers import Transformers

    assert uses_gpu([Transformers(model="sprout")])
    assert not uses_gpu([Scripted(default="")])
    ray.init(
        num_cpus=2, num_gpus=1, include_dashboard=False
    )  # a logical one: Ray counts it, whether or not it is there
    assert with_runner(placing, "ray")() == [[0, [0]], [1, [0]], [0, []], [1, []]]
    ray.shutdown()
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False)
    assert with_runner(placing, "ray")() == [[0, []], [1, []], [0, []], [1, []]], "without one they run on cores"
