"""Does a filter that works while a model trains save training? Plain passes over the shipped rows beside `multistage`'s own form.

Instructions, code and arithmetic of a few hundred characters. Three trainings of the embedded model see the same rows in the
same order: all of them; what the filter lets through; and as many, drawn by chance, as it let through. The loss on the
held-out target is compared over seeds. Usage: `OMP_NUM_THREADS=1 python -m benchmarks multistage [--rows 400]`.
"""

import argparse
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from backends.protocols import Turn
from backends.tune.torch_loop import TorchTuner
from benchmarks._figures import Figures, Found
from benchmarks._mixture_data import SHIPPED, alpaca, columns
from methods.asking.prompts import question
from methods.mixtures.findings import student_interval
from methods.mixtures.runs import mean_loss
from methods.texts.words import words
from methods.training_filter import Plan, filtered_training, word_numbers

LONGEST, TARGET, BATCH = 500, 48, 16


def main() -> None:
    """One line per seed with its three trainings, then the paired differences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=400, help="rows to train on, a third of each kind")
    parser.add_argument("--seeds", type=int, default=3, help="orders of the rows, each trained in all three ways")
    parser.add_argument(
        "--certainty", type=float, default=0.5, help="mean surprise, nats, at which the words begin to decide"
    )
    parser.add_argument("--work", type=Path, help="folder in which finished seeds are kept, and found again")
    chosen = parser.parse_args()
    kept = Figures(chosen.work / "multistage.jsonl" if chosen.work else None)
    talks, target = lessons(chosen.rows)
    plan = Plan(BATCH, ceil(0.15 * len(talks)), 128, chosen.certainty)
    print(f"{len(talks)} rows, {len(target)} held out, the first {unfiltered(plan)} unfiltered")
    print("nats per token on the held out, processor seconds")
    gaps: dict[str, list[float]] = {"all": [], "chance": []}
    for seed in range(chosen.seeds):
        asked = {"rows": len(talks), "seed": seed, "certainty": chosen.certainty}
        loss = kept.get(asked) or kept.put(asked, trained(seed, talks, target, plan))
        gaps["all"].append(loss["filtered"] - loss["all"])
        gaps["chance"].append(loss["filtered"] - loss["chance"])
        print(f"seed {seed}: {loss['says']}", flush=True)
    for other, gap in gaps.items():
        found = student_interval(gap)
        print(
            f"filtered - {other}: {found.estimate:+.4f} (95 % {found.low:+.4f} to {found.high:+.4f}), {len(gap)} seeds"
        )


def trained(seed: int, talks: Sequence[list[Turn]], target: list[list[Turn]], plan: Plan) -> Found:
    """Losses on the target after training on all rows, on what the filter lets through, and on as many by chance."""
    engine = TorchTuner(batch_size=BATCH, threads=1).open()
    texts = word_numbers([set(words(" ".join(t.content for t in talk))) for talk in talks], 2)
    order, warm = np.random.default_rng(seed).permutation(len(talks)), unfiltered(plan)
    untrained = loss_on(engine.start(seed), target)
    plain, plain_seconds = learned(engine, seed, talks, order)
    session, start = engine.start(seed), time.process_time()
    course = filtered_training(session, talks, texts, [order], plan)
    seconds = time.process_time() - start
    taken = int(course.learned.sum())
    rest = np.random.default_rng([seed, 1]).choice(order[warm:], taken, replace=False)
    rest = order[np.isin(order, rest)]  # in the order of the others
    drawn, drawn_seconds = learned(engine, seed, talks, np.concatenate([order[:warm], rest]))
    losses = {"all": loss_on(plain, target), "filtered": loss_on(session, target), "chance": loss_on(drawn, target)}
    says = (
        f"untrained {untrained:.4f}; all {losses['all']:.4f} in {plain_seconds:.1f} s; filtered {losses['filtered']:.4f} in "
        f"{seconds:.1f} s; by chance {losses['chance']:.4f} in {drawn_seconds:.1f} s. Learned {warm + taken} of {len(talks)} "
        f"({course.steps} steps for {ceil(len(talks) / BATCH)}), measured {int(course.measured.sum())}, not even that "
        f"{int(course.skipped.sum())}, words decide from {course.predicted_from} (lowest mean surprise up to then "
        f"{course.surprise:.2f})"
    )
    return {**losses, "says": says}


def unfiltered(plan: Plan) -> int:
    """Rows of the warm-up, in whole steps."""
    return ceil(plan.warmup / plan.batch) * plan.batch


def learned(engine: Any, seed: int, talks: Sequence[Sequence[Turn]], order: np.ndarray) -> tuple[Any, float]:
    """A session after one pass over the rows in this order, and its processor seconds."""
    session, steps = engine.start(seed), ceil(len(order) / BATCH)
    start = time.process_time()
    for number in range(steps):
        part = [talks[i] for i in order[number * BATCH : (number + 1) * BATCH]]
        session.learn(part, epochs=1.0, part=(number, steps))
    return session, time.process_time() - start


def lessons(rows: int) -> tuple[list[list[Turn]], list[list[Turn]]]:
    """Rows to learn, a third of each kind, and others to be measured on."""
    kinds = [
        list(alpaca(SHIPPED / "permissive_instructions.jsonl")),
        list(alpaca(SHIPPED / "gpteacher_codegen.jsonl", "response")),
        list(columns(SHIPPED / "gsm8k_solutions.jsonl", "question", "solution")),
    ]
    draw, learned, held = np.random.default_rng(0), list[list[Turn]](), list[list[Turn]]()
    for kind in kinds:
        some: list[Any] = [row for row in kind if row[2].strip() and sum(map(len, row)) <= LONGEST]
        picked = [some[i] for i in draw.permutation(len(some))[: rows // 3 + TARGET // 3]]
        talks = [[Turn("user", question(a, b)), Turn("assistant", c)] for a, b, c in picked]
        held += talks[: TARGET // 3]
        learned += talks[TARGET // 3 :]
    return learned, held


def loss_on(session: Any, target: list[list[Turn]]) -> float:
    """Nats per token of all answers."""
    loss = mean_loss(session.losses(target))
    return float("nan") if loss is None else loss


if __name__ == "__main__":
    main()
