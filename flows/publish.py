"""Publish: give a stored dataset its self-contained copy, its gate and its name, so that it can be trained on."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import BackendChoices, Decontamination
from tasks.adhoc import adhoc_bench, taken_in
from tasks.publish import publish as publish_as
from tasks.running import running
from tasks.served_flow import flow


@flow(name="publish", flow_run_name="publish {name}", persist_result=False)
def publish(
    dataset: str, name: str, gate: Decontamination | None = None, store: Path = Path("store"), rng_seed: int = 0
) -> str:
    """Publish ``dataset`` (tag, ref or file) under ``name``; ``gate`` declares its benchmarks. The ref of the result."""
    bench = adhoc_bench(store, BackendChoices(), rng_seed)
    with running(name, "publish", bench, flow_run.id) as ending:
        ending.dataset = str(publish_as(name, taken_in(dataset, bench), gate, bench, {}))
    return ending.dataset
