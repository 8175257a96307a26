"""The plain loop over rouge-score, run inside an environment of its own: ``python _novelty_peer.py JOB.json``.

Imports nothing of provender. ``loop``: greedy acceptance as Self-Instruct publishes it, every candidate against everything
that stands, texts tokenized once. ``spot``: single candidates against the pool that stood before them. Prints one JSON line.
"""

import json
import sys
import time
from pathlib import Path

from rouge_score import rouge_scorer, scoring


def main() -> None:
    """Read the job, run both parts, print decisions and seconds of processor time."""
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)

    def tokens(text: str) -> list[str]:
        return scorer._tokenizer.tokenize(text)

    def best(candidate: list[str], pool: list[list[str]]) -> float:
        return max((f1(candidate, other) for other in pool), default=0.0)

    def f1(one: list[str], other: list[str]) -> float:
        score: scoring.Score = rouge_scorer._score_lcs(other, one)
        return score.fmeasure

    start = time.process_time()
    pool = [tokens(text) for text in job["seeds"]]
    kept: list[bool] = []
    pairs = 0
    for text in job["loop"]:
        candidate = tokens(text)
        pairs += len(pool)
        new = best(candidate, pool) <= job["limit"]
        kept.append(new)
        if new:
            pool.append(candidate)
    loop_seconds = time.process_time() - start

    standing = [tokens(text) for text in job["standing"]]
    spots: list[float] = []
    spot_pairs = 0
    start = time.process_time()
    for text, before in job["spots"]:
        spots.append(best(tokens(text), standing[:before]))
        spot_pairs += before
    spot_seconds = time.process_time() - start
    print(
        json.dumps(
            {
                "kept": kept, "pairs": pairs, "loop_seconds": loop_seconds,
                "spots": spots, "spot_pairs": spot_pairs, "spot_seconds": spot_seconds,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
