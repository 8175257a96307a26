"""Evaluate: measure a trained model on examples it was not trained on and on benchmarks, before and after."""

from pathlib import Path

from prefect.runtime import flow_run

from schemas.recipe import BackendChoices, Evaluation
from tasks.adhoc import adhoc_bench, taken_in
from tasks.evaluate_harness import evaluate_trained
from tasks.running import running
from tasks.served_flow import flow


@flow(name="evaluate", flow_run_name="evaluate {model}", persist_result=False)
def evaluate(
    model: str,
    how: Evaluation,
    store: Path = Path("store"),
    rng_seed: int = 0,
    backends: BackendChoices = BackendChoices(),
) -> str:
    """Metrics with intervals of the model a finetune step made; ``how.target`` is a tag, a ref or a file.

    The ref of the evaluation on the target; of the benchmarks where there is no target.
    """
    bench = adhoc_bench(store, backends, rng_seed)
    with running("evaluate", "evaluate", bench, flow_run.id) as ending:
        sources = {how.target: taken_in(how.target, bench)} if how.target is not None else {}
        ending.dataset = str(evaluate_trained(taken_in(model, bench), sources, how, bench)[0])
    return ending.dataset
