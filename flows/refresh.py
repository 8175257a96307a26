"""Refresh: follow a recipe file on a schedule; what did not change is reused."""

from pathlib import Path

from flows.curate import curate
from schemas.recipe import load_recipe
from tasks.runner import with_runner
from tasks.served_flow import flow


@flow(name="refresh", flow_run_name="refresh {recipe}", persist_result=False)
def refresh(recipe: Path, store: Path = Path("store"), overrides: tuple[str, ...] = ()) -> str:
    """Load the recipe file as it is now and curate it; the ref of the dataset. A bad recipe fails before any work."""
    loaded = load_recipe(recipe, overrides)
    return with_runner(curate, loaded.runner)(loaded, store)
