"""Dedup: drop the examples of a stored dataset or a file that repeat another."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import AnyDedup, BackendChoices
from tasks.adhoc import adhoc_bench, named, taken_in
from tasks.judge import dedup_examples
from tasks.running import running
from tasks.served_flow import flow


@flow(name="dedup", persist_result=False)
def dedup(
    pool: str,
    by: AnyDedup,
    store: Path = Path("store"),
    tag: str | None = None,
    backends: BackendChoices = BackendChoices(),
    rng_seed: int = 0,
) -> str:
    """Dedup: drop the examples of a stored dataset or a file that repeat another. The ref of the result."""
    bench = adhoc_bench(store, backends, rng_seed)
    with running(tag or "dedup", "dedup", bench, flow_run.id) as ending:
        ending.dataset = named(dedup_examples(taken_in(pool, bench), by, bench), tag, bench)
    return ending.dataset
