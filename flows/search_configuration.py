"""Search one configuration for all tasks: generate with each, tune on it, measure every task, maximise the smallest gain."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.lineage import DatasetRef
from schemas.search import ConfigurationSearch
from tasks.generate import generate_examples
from tasks.ingest import ingest
from tasks.running import running
from tasks.search_configuration import bench_of_search, choose, measure_tuned, measuring, with_epochs
from tasks.served_flow import flow


@flow(name="search-configuration", flow_run_name="{search.name}", validate_parameters=True, persist_result=False)
def search_configuration(search: ConfigurationSearch, store: Path = Path("store"), run_id: str | None = None) -> str:
    """Try every configuration and number of epochs on every task; the ref of the choice.

    Each pool, each tuned model and each measurement is a step of its own: a search that was stopped goes on there, and
    one more configuration costs only itself.
    """
    bench = bench_of_search(search, Path(store), run_id)
    with running(search.name, "search-configuration", bench, flow_run.id) as ending:
        seeds, dev = ingest("tasks", search.tasks, bench), ingest("dev", search.dev, bench)
        how = measuring(search)
        measured: dict[str, DatasetRef] = {}
        for name, method in search.methods().items():
            pool = generate_examples(name, seeds, method, bench)
            for epochs in search.epochs or (None,):
                key, tuned = (name, bench) if epochs is None else (f"{name}-{epochs:g}", with_epochs(bench, epochs))
                measured[key] = measure_tuned(pool, dev, seeds, how, tuned)
        ending.dataset = str(choose(measured, search.name, bench))
    return ending.dataset
