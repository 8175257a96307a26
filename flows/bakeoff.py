"""Bake-off: try ways to choose on proxies, before one is believed."""

from pathlib import Path

from prefect.runtime import flow_run

from flows.curate import candidates
from schemas.errors import UsageError
from schemas.recipe import Recipe
from tasks.bakeoff import bake
from tasks.bench import bench_of
from tasks.running import running
from tasks.served_flow import flow


@flow(name="bakeoff", flow_run_name="bake-off of {recipe.name}", persist_result=False)
def bakeoff(recipe: Recipe, store: Path = Path("store"), run_id: str | None = None) -> str:
    """Curate up to the choice, let every contender choose, train and measure proxies; the ref of the result."""
    if recipe.bakeoff is None or recipe.target is None:
        raise UsageError("the recipe has no `bakeoff:` section; list contenders there, see docs/selection.md")
    bench = bench_of(recipe, store, run_id)
    with running(recipe.name, "bakeoff", bench, flow_run.id) as ending:
        pool, sources = candidates(recipe, bench)
        ending.dataset = str(bake(pool, sources[recipe.target], recipe.bakeoff, bench))
    return ending.dataset
