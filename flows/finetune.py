"""Finetune: train on a published dataset; the gate stands before it."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import BackendChoices, Finetuning
from tasks.adhoc import adhoc_bench, taken_in
from tasks.finetune import finetune as finetune_on
from tasks.row_losses import measure_row_losses
from tasks.running import running
from tasks.served_flow import flow


@flow(name="finetune", flow_run_name="finetune on {dataset}", persist_result=False)
def finetune(dataset: str, how: Finetuning, store: Path = Path("store"), recipe: str = "", rng_seed: int = 0) -> str:
    """Train on the published version ``dataset`` (tag or ref), measure its rows; the ref of the model."""
    bench = adhoc_bench(store, BackendChoices(), rng_seed)
    with running(recipe or "finetune", "finetune", bench, flow_run.id) as ending:
        ref = taken_in(dataset, bench)
        model = finetune_on(ref, how, bench, recipe)
        measure_row_losses(model, ref, how, bench)
        ending.dataset = str(model)
    return ending.dataset
