"""Decontaminate: drop what gives a benchmark away."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import AnyDecontaminate, BackendChoices
from tasks.adhoc import adhoc_bench, named, taken_in
from tasks.decontaminate import Policy, decontaminate_examples
from tasks.running import running
from tasks.served_flow import flow


@flow(name="decontaminate", persist_result=False)
def decontaminate(
    pool: str,
    benchmarks: tuple[str, ...],
    by: AnyDecontaminate,
    store: Path = Path("store"),
    tag: str | None = None,
    backends: BackendChoices = BackendChoices(),
    rng_seed: int = 0,
    policy: Policy = Policy(),
) -> str:
    """Decontaminate: drop (or, by the policy, flag) what gives a benchmark away. The ref of the result."""
    bench = adhoc_bench(store, backends, rng_seed)
    with running(tag or "decontaminate", "decontaminate", bench, flow_run.id) as ending:
        ending.dataset = named(decontaminate_examples(taken_in(pool, bench), benchmarks, by, bench, policy), tag, bench)
    return ending.dataset
