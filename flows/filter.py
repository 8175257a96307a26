"""Filter: each example of a stored dataset or a file judged alone."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import AnyFilter, BackendChoices
from tasks.adhoc import adhoc_bench, named, taken_in
from tasks.judge import filter_examples
from tasks.running import running
from tasks.served_flow import flow


@flow(name="filter", persist_result=False)
def filter(
    pool: str,
    by: AnyFilter,
    store: Path = Path("store"),
    tag: str | None = None,
    backends: BackendChoices = BackendChoices(),
    rng_seed: int = 0,
) -> str:
    """Filter: each example of a stored dataset or a file judged alone. The ref of the result."""
    bench = adhoc_bench(store, backends, rng_seed)
    with running(tag or "filter", "filter", bench, flow_run.id) as ending:
        ending.dataset = named(filter_examples(taken_in(pool, bench), by, bench), tag, bench)
    return ending.dataset
