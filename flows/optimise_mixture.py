"""Optimise a mixture: find the sources' weights and take examples accordingly."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import AnyMix, BackendChoices
from tasks.adhoc import adhoc_bench, named, taken_in
from tasks.mix import mix_sources
from tasks.running import running
from tasks.served_flow import flow


@flow(name="optimise-mixture", persist_result=False)
def optimise_mixture(
    pool: str,
    by: AnyMix,
    target: str | None = None,
    store: Path = Path("store"),
    tag: str | None = None,
    backends: BackendChoices = BackendChoices(),
    rng_seed: int = 0,
) -> str:
    """Optimise a mixture: find the sources' weights and take examples accordingly. The ref of the result.

    ``target`` is what the mixture is to do well on, for methods that measure; without one they hold a part of each source
    out. Proxy runs that an earlier, stopped run has measured are not measured again.
    """
    bench = adhoc_bench(store, backends, rng_seed)
    with running(tag or "optimise-mixture", "optimise-mixture", bench, flow_run.id) as ending:
        source = taken_in(pool, bench)
        aim = taken_in(target, bench) if target else None
        ending.dataset = named(mix_sources(source, by, bench, aim), tag, bench)
    return ending.dataset
