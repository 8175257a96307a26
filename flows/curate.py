"""Curate: from raw sources to a published fine-tuning set and its training, one stage per line."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.lineage import DatasetRef
from schemas.recipe import Recipe
from tasks.bakeoff import bake, best_of
from tasks.bench import Bench, bench_of
from tasks.decontaminate import Policy, decontaminate_examples
from tasks.evaluate_harness import evaluate_trained
from tasks.finetune import trigger_finetune
from tasks.gather import gather
from tasks.generate import generate_examples
from tasks.ingest import ingest
from tasks.judge import dedup_examples, filter_examples
from tasks.mix import mix_sources
from tasks.publish import publish
from tasks.rank import rank_examples
from tasks.row_losses import measure_row_losses
from tasks.running import running
from tasks.select import select_examples
from tasks.served_flow import flow


@flow(name="curate", flow_run_name="{recipe.name}", validate_parameters=True, persist_result=False)
def curate(recipe: Recipe, store: Path = Path("store"), run_id: str | None = None) -> str:
    """Build the training set a recipe describes, publish it, and start its fine-tuning; the ref of the dataset."""
    bench = bench_of(recipe, store, run_id)
    with running(recipe.name, "curate", bench, flow_run.id) as ending:
        ending.dataset = str(curation(recipe, bench))
    return ending.dataset


def curation(recipe: Recipe, bench: Bench) -> DatasetRef:
    """The table of contents. With a dry bench it only names the steps (`provender plan`)."""
    pool, sources = candidates(recipe, bench)
    target = sources.get(recipe.target or "")
    if recipe.bakeoff and recipe.bakeoff.use_best and target:
        pool = best_of(bake(pool, target, recipe.bakeoff, bench), bench)
    ranking = rank_examples(pool, target, recipe.rank, bench) if recipe.rank else None
    if recipe.select:
        pool = select_examples(pool, ranking, recipe.select, bench)
    if recipe.mix:
        pool = mix_sources(pool, recipe.mix, bench, target)

    dataset = publish(recipe.name, pool, recipe.decontaminate, bench, recipe.model_dump(mode="json"))
    if recipe.finetune:
        model = trigger_finetune(dataset, recipe, bench)
        if model:
            measure_row_losses(model, dataset, recipe.finetune, bench)
        if recipe.evaluate and model:
            evaluate_trained(model, sources, recipe.evaluate, bench)
    return dataset


def candidates(recipe: Recipe, bench: Bench) -> tuple[DatasetRef, dict[str, DatasetRef]]:
    """The cleaned pool that is chosen from, and every source and generated pool by name."""
    sources = {name: ingest(name, source, bench) for name, source in recipe.sources.items()}
    pools = {name: ref for name, ref in sources.items() if recipe.sources[name].role == "pool"}
    for step in recipe.generate:
        sources[step.name] = generate_examples(step.name, sources[step.seeds], step.by, bench, step.license)
        if step.keep:
            pools[step.name] = sources[step.name]

    pool = gather(pools, bench)
    for method in recipe.dedup:
        pool = dedup_examples(pool, method, bench)
    for method in recipe.filter:
        pool = filter_examples(pool, method, bench)
    if recipe.decontaminate:
        policy = Policy(max_source_overlap=recipe.decontaminate.max_source_overlap)
        for method in recipe.decontaminate.by:
            pool = decontaminate_examples(pool, recipe.decontaminate.benchmarks, method, bench, policy)
    return pool, sources
