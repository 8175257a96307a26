"""Cut a ranked pool to its budget."""

from methods.select import AnySelect
from schemas.lineage import DatasetRef
from tasks.bench import Bench
from tasks.figures import figures_of
from tasks.materialise import Work, materialise
from tasks.rank import scores_of, unscored
from tasks.settle import settle
from tasks.stage_task import stage_task


@stage_task("select {method.method}")
def select_examples(pool: DatasetRef, ranking: DatasetRef | None, method: AnySelect, bench: Bench) -> DatasetRef:
    """The examples within the budget; the others are rejected with their score and the threshold.

    ``ranking`` counts only for methods that cut a ranking, and is there for them.
    """
    ranking = ranking if method.ranked else None

    def compute(work: Work) -> None:
        rows = work.store.pool(pool)
        scores = scores_of(work, ranking, rows["id"]) if ranking else unscored(rows["id"])
        said = method.cut(rows, scores, using=work.using, rng=work.rng)
        settle(work, "pool", rows, said, list(method.settled_rules(said)))
        kept = rows.join(said.filter(said["fate"] == "keep").select("id"), on="id", how="semi")
        work.draft.summary.update(figures_of(kept))

    inputs = [("pool", pool), *([("ranking", ranking)] if ranking else [])]
    return materialise("select", method, inputs, bench, compute)
