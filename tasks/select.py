"""Cut a ranked pool to its budget."""

from methods.select import AnySelect
from methods.streamed import EmbeddedCut
from schemas.lineage import DatasetRef
from tasks.bench import Bench
from tasks.columns import TEXTS, pool_for, texts_of
from tasks.figures import figures_of_members
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
        rows = pool_for(work.store, pool, method, TEXTS if isinstance(method, EmbeddedCut) else ())
        ids = rows["id"]
        scores = scores_of(work, ranking, ids) if ranking else unscored(ids)
        if isinstance(method, EmbeddedCut):
            texts = texts_of(work.store, pool)
            said = method.cut_rows(rows, texts, scores, using=work.using, rng=work.rng)
        else:
            said = method.cut(rows, scores, using=work.using, rng=work.rng)
        del rows, scores
        kept = settle(work, "pool", ids, said, list(method.settled_rules(said)))
        work.draft.summary.update(figures_of_members(work.store, pool, work.store.positions(pool).filter(kept)))

    inputs = [("pool", pool), *([("ranking", ranking)] if ranking else [])]
    return materialise("select", method, inputs, bench, compute)
