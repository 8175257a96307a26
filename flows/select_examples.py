"""Select: rank a pool, then cut it to its budget."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.errors import UsageError
from schemas.recipe import AnyRank, AnySelect, BackendChoices
from tasks.adhoc import adhoc_bench, named, taken_in
from tasks.rank import rank_examples
from tasks.running import running
from tasks.select import select_examples
from tasks.served_flow import flow


@flow(name="select", persist_result=False)
def select(
    pool: str,
    rank: AnyRank | None,
    cut: AnySelect | None = None,
    target: str | None = None,
    store: Path = Path("store"),
    tag: str | None = None,
    backends: BackendChoices = BackendChoices(),
    rng_seed: int = 0,
) -> str:
    """Select: rank a pool, then cut it to its budget, or cut it by the set itself. The ref of the result."""
    bench = adhoc_bench(store, backends, rng_seed)
    with running(tag or "select", "select", bench, flow_run.id) as ending:
        source = taken_in(pool, bench)
        ranking = rank_examples(source, taken_in(target, bench) if target else None, rank, bench) if rank else None
        made = select_examples(source, ranking, cut, bench) if cut else ranking
        if made is None:
            raise UsageError("there is nothing to do: name a ranking, a selection, or both")
        ending.dataset = named(made, tag, bench)
    return ending.dataset
