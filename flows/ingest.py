"""Ingest: bring a file, a folder or a hub dataset into the store."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import BackendChoices
from schemas.sources import SourceSpec
from tasks.adhoc import adhoc_bench, named, source_name
from tasks.ingest import ingest
from tasks.running import running
from tasks.served_flow import flow


@flow(name="ingest", persist_result=False)
def ingest_source(
    source: SourceSpec,
    name: str | None = None,
    store: Path = Path("store"),
    tag: str | None = None,
    backends: BackendChoices = BackendChoices(),
    rng_seed: int = 0,
) -> str:
    """Ingest: bring a file, a folder or a hub dataset into the store. The ref of the result."""
    bench = adhoc_bench(store, backends, rng_seed)
    with running(tag or "ingest", "ingest", bench, flow_run.id) as ending:
        ending.dataset = named(ingest(name or source_name(Path(source.path)), source, bench), tag, bench)
    return ending.dataset
