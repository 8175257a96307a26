"""Does a filter that works while a model trains save training? Plain passes over the shipped rows beside `multistage`'s own form.

Instructions, code and arithmetic of a few hundred characters; both trainings see the same rows in the same order, and the
loss on the held-out target is compared over seeds. Usage: `OMP_NUM_THREADS=1 python -m benchmarks.multistage [--rows 400]`.
"""

import argparse
import time
from math import ceil
from typing import Any

import numpy as np

from backends.protocols import Turn
from backends.tune.torch_loop import TorchTuner
from benchmarks._mixture_data import SHIPPED, alpaca, columns
from methods.mixture_findings import student_interval
from methods.mixture_runs import mean_loss
from methods.prompts import question
from methods.text import words
from methods.training_filter import Plan, filtered_training, word_numbers

LONGEST, TARGET, BATCH = 500, 48, 16


def main() -> None:
    """One line per seed and kind of training, then the paired difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--certainty", type=float, default=0.5)
    chosen = parser.parse_args()
    talks, target = lessons(chosen.rows)
    engine = TorchTuner(batch_size=BATCH, threads=1).open()
    gaps: list[float] = []
    for seed in range(chosen.seeds):
        order = np.random.default_rng(seed).permutation(len(talks))
        plain, plain_loss = engine.start(seed), 0.0
        start = time.perf_counter()
        steps = ceil(len(order) / BATCH)
        for number in range(steps):
            part = [talks[i] for i in order[number * BATCH : (number + 1) * BATCH]]
            plain.learn(part, epochs=1.0, part=(number, steps))
        wall, plain_loss = time.perf_counter() - start, loss_on(plain, target)
        session = engine.start(seed)
        texts = word_numbers([set(words(" ".join(t.content for t in talk))) for talk in talks], 2)
        start = time.perf_counter()
        plan = Plan(BATCH, ceil(0.15 * len(talks)), 128, chosen.certainty)
        course = filtered_training(session, talks, texts, [order], plan)
        filtered, filtered_loss = time.perf_counter() - start, loss_on(session, target)
        gaps.append(filtered_loss - plain_loss)
        print(
            f"seed {seed}: plain {wall:.1f} s, loss {plain_loss:.4f}; filtered {filtered:.1f} s, loss {filtered_loss:.4f}; "
            f"learned {plan.warmup + int(course.learned.sum())} of {len(talks)} ({course.steps} steps for {steps}), measured "
            f"{int(course.measured.sum())}, not even that {int(course.skipped.sum())}, words decide from {course.predicted_from}",
            flush=True,
        )
    gap = student_interval(gaps)
    print(
        f"filtered - plain: {gap.estimate:+.4f} nats per token (95 % {gap.low:+.4f} to {gap.high:+.4f}), {len(gaps)} seeds"
    )


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
