"""Generate: let a teacher write new examples from seed examples."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import AnyGenerate, BackendChoices
from tasks.adhoc import adhoc_bench, named, taken_in
from tasks.generate import generate_examples
from tasks.running import running
from tasks.served_flow import flow


@flow(name="generate", persist_result=False)
def generate(
    seeds: str,
    by: AnyGenerate,
    store: Path = Path("store"),
    tag: str | None = None,
    backends: BackendChoices = BackendChoices(),
    rng_seed: int = 0,
) -> str:
    """Generate: let a teacher write new examples from seed examples. The ref of the result."""
    bench = adhoc_bench(store, backends, rng_seed)
    with running(tag or "generate", "generate", bench, flow_run.id) as ending:
        ending.dataset = named(generate_examples(tag or "synthetic", taken_in(seeds, bench), by, bench), tag, bench)
    return ending.dataset
