"""A queue of proxy runs survives a stop and a kill, is shared by methods of one design, and ends as a dataset in the store."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends.tune.simulated import SimulatedTuner
from flows.optimise_mixture import optimise_mixture
from methods.mix.log_linear import LogLinear
from methods.mix.quadratic import QuadraticMix
from schemas.errors import Stopped
from schemas.lineage import DatasetRef, Manifest
from schemas.recipe import BackendChoices
from storage.calls.stopping import STOP_FILE
from storage.store import Store
from tasks.events import Event, listening
from tests.outside_check import Outside

TUNER = SimulatedTuner(skills=("skill-a", "skill-b"), affinity=((1.0, 0.2), (0.0, 1.0)), rate=0.1, noise=0.002)
METHOD = LogLinear(kl=0, proxies=12, bootstraps=10, check_seeds=2, proxy_examples=100, total_examples=150)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A folder of two files, which are two sources of one pool once gathered; here one file with a source column."""
    rows = [{"prompt": f"skill-{s} question {i}?", "completion": f"answer {i}"} for s in "ab" for i in range(90)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def gathered(folder: Path, store: Path) -> str:
    """One pool of the sources ``a`` and ``b``."""
    from schemas.sources import SourceSpec
    from tasks.adhoc import adhoc_bench
    from tasks.gather import gather
    from tasks.ingest import ingest

    bench, refs = adhoc_bench(store, BackendChoices()), dict[str, DatasetRef]()
    for name in "ab":
        path = folder / f"{name}.jsonl"
        rows = [
            {"prompt": f"skill-{name} question {i}?", "completion": f"answer {i}"}
            for i in range({"a": 90, "b": 60}[name])
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        refs[name] = ingest(name, SourceSpec(path=str(path), shape="prompt-completion"), bench)
    return str(gather(refs, bench))


def mixed(pool: str, store: Path, method: Any = METHOD) -> Manifest:
    ref = optimise_mixture.fn(pool, method, store=store, backends=BackendChoices(tune=TUNER))
    return Store.open(store).describe(DatasetRef.parse(ref))


def measurements(store: Path) -> int:
    return len(list((store / "measured").glob("*/*.json")))


def test_the_mixture_is_a_dataset_with_its_runs_beside_it(tmp_path: Path):
    store = tmp_path / "store"
    heard: list[Event] = []
    with listening(heard.append):
        made = mixed(gathered(tmp_path, store), store)
    assert sum(made.summary["take"].values()) == made.counts.rows_out == 150
    notes = made.summary["notes"]
    assert notes["compared"][0]["against"] == "uniform"
    assert set(notes["intervals"]) == {"a", "b"}
    runs = Store.open(store).part(made.ref, "sidecar/runs")
    assert runs.height == 12 + 3 * 2
    assert {"w_a", "w_b", "loss_a", "loss_b", "measured", "predicted", "kind", "rng_seed"} <= set(runs.columns)
    assert made.step.backends["tune"]["backend"] == "simulated", "a fake says so in the identity"
    told = [e for e in heard if e.kind == "progress" and e.stage == "mix"]
    assert [e.done for e in told] == list(range(1, 19))
    assert "pilot (a 0.60 b 0.40), seed 0: loss" in told[0].note
    Outside(store).check(str(made.ref))
    assert Store.open(store).verify() == []


def test_a_queue_that_was_stopped_goes_on_where_it_was_and_ends_the_same(tmp_path: Path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    pool = gathered(tmp_path, whole)
    undisturbed = mixed(pool, whole)
    assert gathered(tmp_path, stopped) == pool

    def stop_after_five(event: Event) -> None:
        if event.kind == "progress" and event.stage == "mix" and event.done == 5:
            (stopped / STOP_FILE).touch()

    with pytest.raises(Stopped, match="stopped between two measurements"), listening(stop_after_five):
        mixed(pool, stopped)
    assert measurements(stopped) == 5
    with pytest.raises(Stopped):
        mixed(pool, stopped)
    (stopped / STOP_FILE).unlink()
    kept = {path: path.stat().st_mtime_ns for path in (stopped / "measured").glob("*/*.json")}
    again = mixed(pool, stopped)
    assert (again.ref, again.digest) == (undisturbed.ref, undisturbed.digest)
    assert measurements(stopped) == measurements(whole) == 18
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "nothing measured was measured again"


def test_another_method_of_the_same_design_measures_only_its_proposal(tmp_path: Path):
    store = tmp_path / "store"
    pool = gathered(tmp_path, store)
    mixed(pool, store)
    settings = {"proxies": 12, "bootstraps": 5, "check_seeds": 2, "proxy_examples": 100, "total_examples": 150}
    mixed(pool, store, QuadraticMix(**settings))
    assert measurements(store) <= 20


def test_a_target_is_an_input_of_a_method_that_aims_only(tmp_path: Path):
    store = tmp_path / "store"
    pool = gathered(tmp_path, store)
    (tmp_path / "exam.jsonl").write_text(json.dumps({"prompt": "skill-b exam?", "completion": "yes"}) + "\n")
    run: Any = optimise_mixture.fn
    ref = run(pool, METHOD, target=str(tmp_path / "exam.jsonl"), store=store, backends=BackendChoices(tune=TUNER))
    made = Store.open(store).describe(DatasetRef.parse(ref))
    assert [role for role, _ in made.step.inputs] == ["pool", "target"]
    assert made.summary["notes"]["measured_on"] == {"exam": 1}
    assert made.summary["weights"]["b"] > 0.9
    from methods.mix.temperature import Temperature

    plain = run(pool, Temperature(), target=str(tmp_path / "exam.jsonl"), store=store)
    assert [role for role, _ in Store.open(store).describe(DatasetRef.parse(plain)).step.inputs] == ["pool"]


def test_one_source_is_taken_whole(tmp_path: Path, pool: Path):
    made = mixed(str(pool), tmp_path / "store", LogLinear())
    assert made.summary["notes"]["says"].startswith("rows is the only source")
    assert made.counts.rows_out == 180
