"""Which way to choose is worth it here? Each contender's selection trains proxies, and the target set judges them."""

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl

from backends.protocols import Turn
from methods.conversation import as_turns, teaches
from methods.keyed import by_key, keyed_hashes
from methods.measuring.bakeoff import Trial, verdict_of
from methods.rank.uniform import Uniform
from methods.select import AnySelect
from methods.select.top import Top
from schemas.errors import EmptyStage, MissingDataset
from schemas.identity import fingerprint
from schemas.lineage import DatasetRef
from schemas.method import Method
from schemas.recipe import Bakeoff, Contender
from tasks.bench import Bench, open_store
from tasks.materialise import Work, materialise, planned
from tasks.proxies import stopping
from tasks.rank import rank_examples
from tasks.select import select_examples
from tasks.stage_task import stage_task

BASELINE = "uniform"


class Measuring(Method):
    """What decides a bake-off's result, apart from the pool, the target set, the selections and the tuner."""

    stage: ClassVar[str] = "bakeoff"
    needs: ClassVar[frozenset[str]] = frozenset({"tune"})

    method: str = "bakeoff"
    labels: tuple[str, ...]
    seeds: int
    max_target_examples: int


def bake(pool: DatasetRef, target: DatasetRef, how: Bakeoff, bench: Bench) -> DatasetRef:
    """Every contender chooses (each choice is a step of its own), then proxies are trained and measured."""
    chosen = [
        (label, seed, choose(pool, target, contender, how, reseeded(bench, seed)))
        for label, contender in contenders(how)
        for seed in range(how.seeds)
    ]
    return measure(pool, target, chosen, how, bench)


def contenders(how: Bakeoff) -> list[tuple[str, Contender]]:
    """Chance first, then the recipe's own, each under its label."""
    named = [(contender.label, contender) for contender in how.contenders]
    return [(BASELINE, Contender(rank=Uniform())), *(pair for pair in named if pair[0] != BASELINE)]


def reseeded(bench: Bench, seed: int) -> Bench:
    """The bench for one of the seeds; the first is the recipe's own, so that its choice is the one a run would make."""
    return bench.model_copy(update={"rng_seed": bench.rng_seed + seed})


def choose(pool: DatasetRef, target: DatasetRef, contender: Contender, how: Bakeoff, bench: Bench) -> DatasetRef:
    """The examples that one contender keeps within the budget."""
    ranking = rank_examples(pool, target, contender.rank, bench) if contender.rank else None
    return select_examples(pool, ranking, budgeted(contender.select or Top(keep_examples=1), how), bench)


def budgeted(select: AnySelect, how: Bakeoff) -> AnySelect:
    """The selection under the bake-off's own budget: a contender that kept more would have an unfair advantage."""
    own = {"keep_examples": how.keep_examples, "budget_tokens": how.budget_tokens}
    unset = {name: None for name in ("keep_fraction", "quotas") if name in type(select).model_fields}
    unit = {"quota_unit": "examples"} if "quota_unit" in type(select).model_fields else {}
    return select.model_copy(update={**unset, **unit, **own})


@stage_task("bakeoff")
def measure(
    pool: DatasetRef, target: DatasetRef, chosen: list[tuple[str, int, DatasetRef]], how: Bakeoff, bench: Bench
) -> DatasetRef:
    """Train a proxy on every choice and measure it on the target; table, intervals, costs and one sentence are stored."""
    labels = tuple(dict.fromkeys(label for label, _, _ in chosen))
    method = Measuring(labels=labels, seeds=how.seeds, max_target_examples=how.max_target_examples)
    inputs = [("pool", pool), ("target", target), *((f"{label}/{seed}", ref) for label, seed, ref in chosen)]

    def compute(work: Work) -> None:
        aim = work.store.pool(target, ["id", "messages"])
        order = by_key(keyed_hashes(aim["id"], 0), aim["id"])[: how.max_target_examples]
        goals = lessons(aim[np.sort(order)])
        if len(goals) < 2:
            raise EmptyStage(
                f"the target set of a bake-off needs two examples with an answer; {target} has {len(goals)}"
            )
        trials = [trial(work, label, seed, ref, goals, n, len(chosen)) for n, (label, seed, ref) in enumerate(chosen)]
        found = verdict_of(trials, BASELINE, np.random.default_rng(bench.rng_seed))
        work.draft.put("sidecar/runs", pl.DataFrame([t.row() for t in trials], infer_schema_length=None))
        work.draft.nondeterministic = True
        work.draft.summary = {
            **found,
            "choices": {f"{label}/{seed}": str(ref) for label, seed, ref in chosen},
            "keep_examples": how.keep_examples,
            "budget_tokens": how.budget_tokens,
            "target_examples": len(goals),
        }

    return materialise("bakeoff", method, inputs, bench, compute)


def trial(
    work: Work, label: str, seed: int, ref: DatasetRef, goals: Sequence[list[Turn]], number: int, count: int
) -> Trial:
    """One proxy: trained on what was chosen, measured on the target; remembered, so that a killed bake-off goes on."""
    rows = work.store.pool(ref, ["id", "messages"])
    taught = lessons(rows)
    if not taught:
        raise EmptyStage(f"{label} chose no example that ends with an answer, so there is nothing to train a proxy on")
    work.using.progress(number, count, f"{label}, seed {seed}")
    asked = {
        "what": "bakeoff-proxy",
        "version": 1,
        "lessons": fingerprint([[[t.role, t.content] for t in turns] for turns in taught]),
        "target": fingerprint([[[t.role, t.content] for t in turns] for turns in goals]),
        "seed": seed,
    }

    def make() -> dict[str, Any]:
        started = time.perf_counter()
        session = work.using.tune.start(seed)
        epochs = float(work.using.tune.identity().get("epochs", 1.0))
        history = session.learn(taught, epochs=epochs)
        losses = [-s.sum_logprob / s.n_tokens if s.n_tokens else None for s in session.losses(goals)]
        return {"losses": losses, "train_loss": history[-1], "seconds": round(time.perf_counter() - started, 3)}

    done = stopping(work.using.once, work.store)(asked, make)
    return Trial(
        label=label,
        seed=seed,
        losses=np.array([np.nan if x is None else x for x in done["losses"]], dtype=np.float64),
        ids=frozenset(rows["id"].to_list()),
        choice=str(ref),
        train_seconds=float(done["seconds"]),
        **cost_of(work, ref),
    )


def cost_of(work: Work, choice: DatasetRef) -> dict[str, Any]:
    """Seconds and tokens that a choice took: its own step's and its ranking's."""
    steps = [work.store.describe(choice)]
    ranking = dict(steps[0].step.inputs).get("ranking")
    steps += [work.store.describe(ranking)] if ranking else []
    runs = [step.run for step in steps]
    tokens = sum(int(run.get("prompt_tokens") or 0) + int(run.get("completion_tokens") or 0) for run in runs)
    return {"choose_seconds": sum(float(run.get("seconds") or 0.0) for run in runs), "tokens": tokens}


def lessons(rows: pl.DataFrame) -> list[list[Turn]]:
    """The conversations that a tuner can learn from or be measured on, in their order."""
    return [turns for messages in rows["messages"].to_list() if teaches(turns := as_turns(messages))]


def best_of(result: DatasetRef, bench: Bench) -> DatasetRef:
    """The winner's choice with the recipe's own seed. A plan that has no result yet goes on with the baseline's."""
    store = open_store(bench)
    manifest = store.lookup(result)
    if manifest is None:
        if not bench.dry:
            raise MissingDataset(f"{result} is not in the store; run `provender bakeoff` again")
        step = next(one.step for one in planned[bench.run_id] if one.step.output == result)
        return dict(step.inputs)[f"{BASELINE}/0"]
    return DatasetRef.parse(manifest.summary["choices"][f"{manifest.summary['winner']}/0"])
