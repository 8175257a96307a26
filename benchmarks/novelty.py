"""Novelty acceptance of 20,000 instructions against a growing pool, beside a plain loop over rouge-score, and to 100,000.

Decisions are Self-Instruct's: drop what has a ROUGE-L F1 above 0.7 to any seed or to anything accepted before. Compared
with rouge-score 0.1.2 in an environment of its own: every decision of the first candidates, and single candidates spread
over all 20,000 against the pool that stood before them. Times are processor time on one core.
Usage: `python -m benchmarks.novelty [--data FOLDER] [--candidates 20000] [--grow-to 100000] [--loop 600] [--quick]`;
the folder (or PROVENDER_DATA) holds `instructions/alpaca_52k.parquet`. Without it the shipped rows are recombined.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks._throwaway import environment
from methods.texts.acceptance import Decision, RougeStanding, accept_greedily
from methods.texts.metrics import rouge_tokens
from methods.texts.words import similarity_tokens

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 0.7
SPOTS = 60


def main() -> None:
    """Print the three parts: speed and decisions, neighbours and script-aware tokens, growth."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("PROVENDER_DATA"), help="folder with real instructions")
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--grow-to", type=int, default=100_000)
    parser.add_argument("--loop", type=int, default=600, help="candidates that the plain loop decides in full")
    parser.add_argument("--quick", action="store_true", help="2,000 candidates, growth to 5,000")
    chosen = parser.parse_args()
    count, grow_to, loop = chosen.candidates, chosen.grow_to, chosen.loop
    if chosen.quick:
        count, grow_to, loop = 2_000, 5_000, 100
    seeds = shipped("seed_tasks.jsonl")
    texts, real = instructions(chosen.data, max(count, grow_to))
    print(
        f"{os.cpu_count()} cores, one used; {len(seeds)} seeds, {count:,} candidates, every fifth of them an edited copy of "
        f"an earlier one ({real:,} of the {len(texts):,} instructions of all parts are real)"
    )

    ours, seconds = timed(seeds, texts[:count], neighbors=0)
    accepted = sum(decision.position is not None for decision in ours)
    print(f"\nours: {accepted:,} of {count:,} accepted in {seconds:.2f} s ({seconds / count * 1e6:.0f} µs a candidate)")
    against_the_plain_loop(seeds, texts[:count], ours, seconds, loop)

    _, with_neighbors = timed(seeds, texts[:count], neighbors=3)
    _, aware = timed(seeds, texts[:count], neighbors=3, script_aware=True)
    print(
        f"\nwith the 3 nearest of each stored: {with_neighbors:.2f} s; the same on words of any script: {aware:.2f} s"
    )
    growth(seeds, texts[:grow_to])


def timed(
    seeds: list[str], texts: list[str], *, neighbors: int, script_aware: bool = False
) -> tuple[list[Decision[str]], float]:
    """Decisions and the processor seconds that they took."""
    start = time.process_time()
    tokens = similarity_tokens if script_aware else rouge_tokens
    standing = RougeStanding(tokens, LIMIT, at_limit_kept=True, texts=seeds)
    decisions = accept_greedily(texts, standing, neighbors=neighbors)
    return decisions, time.process_time() - start


def against_the_plain_loop(
    seeds: list[str], texts: list[str], ours: list[Decision[str]], seconds: float, loop: int
) -> None:
    """The same decisions by rouge-score, and what its loop would take for all of them."""
    accepted = [text for text, decision in zip(texts, ours, strict=True) if decision.position is not None]
    before, standing = [], len(seeds)
    for decision in ours:
        before.append(standing)
        standing += decision.position is not None
    dropped = [i for i, decision in enumerate(ours) if decision.position is None]
    spread = random.Random(0).sample(range(len(texts)), SPOTS // 2)
    places = sorted({*spread, *random.Random(1).sample(dropped, min(SPOTS // 2, len(dropped)))})
    job = {
        "limit": LIMIT, "seeds": seeds, "loop": texts[:loop], "standing": seeds + accepted,
        "spots": [(texts[i], before[i]) for i in places],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="provender-novelty-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        python = environment(folder / "env", ["rouge-score==0.1.2"])
        done = subprocess.run(
            [str(python), str(Path(__file__).with_name("_novelty_peer.py")), str(folder / "job.json")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"the plain loop failed:\n{done.stderr}")
    theirs = json.loads(done.stdout)
    _, same = timed(seeds, texts[:loop], neighbors=0)
    differ = [i for i in range(loop) if theirs["kept"][i] != (ours[i].position is not None)]
    wrong = [i for i, best in zip(places, theirs["spots"], strict=True) if (best > LIMIT) != (ours[i].position is None)]
    pair = theirs["spot_seconds"] / theirs["spot_pairs"]
    pairs = sum(before)
    print(
        f"plain loop, first {loop}: {theirs['loop_seconds']:.1f} s, ours {same:.3f} s: "
        f"{theirs['loop_seconds'] / same:,.0f} x; decisions that differ: {len(differ)} of {loop}\n"
        f"single candidates anywhere: {len(wrong)} of {len(places)} decisions differ "
        f"({sum(ours[i].position is None for i in places)} of them drops)\n"
        f"plain loop, all {len(texts):,}: {pairs:,} pairs at {pair * 1e6:.1f} µs each (measured on {theirs['spot_pairs']:,}) "
        f"= {pairs * pair / 60:,.0f} min, extrapolated: {pairs * pair / seconds:,.0f} x"
    )
    if differ or wrong:
        sys.exit("decisions differ from the plain loop's")


def growth(seeds: list[str], texts: list[str]) -> None:
    """Microseconds per candidate while the pool grows."""
    print("\npool size   µs per candidate (decision)   with 3 neighbours")
    bare = RougeStanding(rouge_tokens, LIMIT, at_limit_kept=True, texts=seeds)
    near = RougeStanding(rouge_tokens, LIMIT, at_limit_kept=True, texts=seeds)
    marks = [n for n in (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000) if n <= len(texts)]
    place = 0
    for mark in marks:
        probe = min(500, mark // 2)
        for text in texts[place : mark - probe]:
            bare.add(text)
            near.add(text)
        place = mark
        took: list[float] = []
        for standing, neighbors in ((bare, 0), (near, 3)):
            start = time.process_time()
            accept_greedily(texts[mark - probe : mark], standing, neighbors=neighbors)
            took.append((time.process_time() - start) / probe * 1e6)
        print(f"{mark:>9,}   {took[0]:>27,.0f}   {took[1]:>17,.0f}", flush=True)


def instructions(data: str | None, count: int) -> tuple[list[str], int]:
    """``count`` different instructions and how many of them are real.

    Every fifth is an earlier one with one to four words replaced, so that there is something to drop: Alpaca's own rows
    passed this very filter once. What is missing then is recombined from real ones, six words in ten replaced.
    """
    path = Path(data) / "instructions" / "alpaca_52k.parquet" if data else None
    if path and path.is_file():
        real = pl.read_parquet(path, columns=["instruction"])["instruction"].to_list()
    else:
        print("no --data with instructions/alpaca_52k.parquet: shipped rows, recombined", flush=True)
        names = ("permissive_instructions.jsonl", "gpteacher_codegen.jsonl", "seed_tasks.jsonl")
        real = [text for name in names for text in shipped(name)]
    real = list(dict.fromkeys(real))
    vocabulary = [word for text in real for word in text.split()]
    dice, texts, taken = random.Random(0), dict.fromkeys(real[:4]), 4
    while len(texts) < count:
        if len(texts) % 5 == 4:
            words = dice.choice(real[:taken]).split()
            for place in dice.sample(range(len(words)), min(dice.randint(1, 4), len(words))):
                words[place] = dice.choice(vocabulary)
            texts[" ".join(words)] = None
        elif taken < len(real):
            texts[real[taken]] = None
            taken += 1
        else:
            words = dice.choice(real).split()
            texts[" ".join(dice.choice(vocabulary) if dice.random() < 0.6 else word for word in words)] = None
    return list(texts), taken


def shipped(name: str) -> list[str]:
    """The instructions of a file of sample data."""
    text = (ROOT / "recipes" / "data" / name).read_text("utf-8")
    return [json.loads(line)["instruction"] for line in text.splitlines()]


if __name__ == "__main__":
    main()
