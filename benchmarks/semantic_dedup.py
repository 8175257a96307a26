"""Semantic dedup of 100,000 embeddings beside brute-force blocked numpy: the same decisions, and how much sooner.

Rows: real instructions (those shipped; with ``--data`` also Alpaca's) and copies, one in five with at most two words
replaced, the others with a third, embedded by the `static` embedder (256 numbers). Brute force: each block of 1,024 rows
against all rows that stay so far (for SemDeDup's rule: against all earlier rows), full width, one matrix product and one
comparison, then the same rule. Both sides on one core. Usage:
`python -m benchmarks.semantic_dedup [--rows 100000] [--quick] [--data FOLDER] [--threshold 0.9 0.95]`.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backends.embed.sentence_transformers import SentenceTransformers
from backends.embed.static import Static
from benchmarks._copies import copies, real_rows
from methods.dedup._cosines import Homes, Vectors, any_earlier, cosine, first_come
from methods.points.kmeans import kmeans

BLOCK = 1024


def main() -> None:
    """Embed the rows, run both sides, compare their decisions, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="10,000 rows")
    parser.add_argument("--data", default=os.environ.get("PROVENDER_DATA"), help="folder of local data sets")
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.9, 0.95])
    chosen = parser.parse_args()
    rows = 10_000 if chosen.quick else chosen.rows
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for the process started below
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(run, (rows, chosen.data, chosen.threshold))


def run(rows: int, data: str | None, thresholds: list[float]) -> None:
    """The whole of it, in a process that computes on one thread."""
    start = time.perf_counter()
    vectors = embedded(rows, data)
    print(
        f"{rows:,} texts embedded in {time.perf_counter() - start:.1f} s, {vectors.shape[1]} numbers each; "
        "one core each side"
    )
    print(f"{'':44}{'wall s':>9}{'cpu s':>9}{'x wall':>8}{'x cpu':>8}{'dropped':>10}{'decide differently':>20}")
    for threshold in thresholds:
        compare(f"keeps what resembles nothing kept, {threshold}", vectors, threshold, first_come, brute_first_come)
        compare(f"SemDeDup's rule, {threshold}", vectors, threshold, any_earlier, brute_any_earlier)
        clustered(vectors, threshold)
    people(data)


Decide = Callable[[np.ndarray, float], np.ndarray]


def compare(label: str, vectors: np.ndarray, threshold: float, ours: Any, brute: Decide) -> None:
    """Both sides, in this order, in this process."""
    runs: dict[str, tuple[float, float, np.ndarray]] = {}
    for side, work in (
        ("brute force", brute),
        ("semantic", lambda rows, t: ours(Vectors(rows, t, threads=1), lambda _: None).home),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        home = work(vectors, threshold)
        runs[side] = (time.perf_counter() - wall, time.process_time() - cpu, home)
    base = runs["brute force"]
    for side, (wall, cpu, home) in runs.items():
        gone = home != np.arange(len(home))
        differs = np.count_nonzero(gone != (base[2] != np.arange(len(home))))
        other = np.count_nonzero(home != base[2])
        print(
            f"{f'{label}: {side}':44}{wall:9.2f}{cpu:9.2f}{base[0] / wall:8.2f}{base[1] / cpu:8.2f}"
            f"{np.count_nonzero(gone):10,}{f'{differs} ({other} homes)':>20}",
            flush=True,
        )


def people(data: str | None) -> None:
    """Pairs at or above a cosine, and what people say of them (STS-B, 0 to 5: 4 is "mostly equivalent")."""
    path = Path(data) / "near_dup" / "stsb_en_train_dev.parquet" if data else None
    if path is None or not path.exists():
        print("what people say: needs --data FOLDER with near_dup/stsb_en_train_dev.parquet")
        return
    pairs = pl.read_parquet(path).filter(pl.col("split") == "dev")
    score = pairs["score"].to_numpy()
    for name, engine in (("static", Static().open()), ("MiniLM", SentenceTransformers().open())):
        one, other = engine.embed(pairs["sentence1"].to_list()), engine.embed(pairs["sentence2"].to_list())
        near = cosine(one, other)
        for threshold in (0.85, 0.9, 0.95, 0.97):
            found = near >= threshold
            print(
                f"{name} >= {threshold}: {found.sum()} of {len(score):,} pairs; people give {(score[found] >= 4).mean():.2f} "
                f"of them at least 4; finds {found[score >= 4.5].mean():.2f} of those with at least 4.5"
            )


def clustered(vectors: np.ndarray, threshold: float) -> None:
    """Inside k-means clusters only, as SemDeDup does it: what that saves and what it misses."""
    exact = first_come(Vectors(vectors, threshold, threads=1), lambda _: None)
    stays = exact.home == np.arange(len(vectors))
    for k in (30, 300):
        wall, cpu = time.perf_counter(), time.process_time()
        label = kmeans(vectors, k, np.random.default_rng(0)).label
        homes = Homes.of(len(vectors))
        for c in range(k):
            part = np.flatnonzero(label == c)
            homes.home[part] = part[first_come(Vectors(vectors[part], threshold, threads=1), lambda _: None).home]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        gone = homes.home != np.arange(len(vectors))
        print(
            f"{f'  in {k} k-means clusters, {threshold}':44}{wall:9.2f}{cpu:9.2f}{'':16}{np.count_nonzero(gone):10,}"
            f"  finds {np.count_nonzero(gone & ~stays) / max(1, np.count_nonzero(~stays)):.4f} of them",
            flush=True,
        )


def brute_first_come(rows: np.ndarray, threshold: float) -> np.ndarray:
    """Each block against all that stay so far, then the block itself in order."""
    home = np.arange(len(rows))
    kept, kept_rows, held = np.empty(len(rows), dtype=np.int64), np.empty_like(rows), 0
    for start in range(0, len(rows), BLOCK):
        block = np.arange(start, min(len(rows), start + BLOCK))
        best, near = np.full(len(block), -1), np.full(len(block), -1.0)
        for first in range(0, held, 8 * BLOCK):
            last = min(held, first + 8 * BLOCK)
            i, j = np.nonzero(rows[block] @ kept_rows[first:last].T >= threshold - 1e-5)
            now = cosine(rows[block[i]], kept_rows[first + j])
            for at in np.flatnonzero(now >= threshold):
                if now[at] > near[i[at]]:
                    best[i[at]], near[i[at]] = kept[first + j[at]], now[at]
        inside = rows[block] @ rows[block].T
        for i in range(len(block)):
            alike = [
                j
                for j in np.flatnonzero(inside[i, :i] >= threshold - 1e-5)
                if home[block[j]] == block[j] and pair(rows, block[i], block[j]) >= threshold
            ]
            for j in alike:
                now = pair(rows, block[i], block[j])
                if now > near[i]:
                    best[i], near[i] = block[j], now
            if best[i] >= 0:
                home[block[i]] = best[i]
        staying = block[home[block] == block]
        kept[held : held + len(staying)], kept_rows[held : held + len(staying)] = staying, rows[staying]
        held += len(staying)
    return home


def brute_any_earlier(rows: np.ndarray, threshold: float) -> np.ndarray:
    """Each block against all rows up to it: the first one alike."""
    home = np.arange(len(rows))
    for start in range(0, len(rows), BLOCK):
        block = np.arange(start, min(len(rows), start + BLOCK))
        for first in range(0, start + BLOCK, 8 * BLOCK):
            others = np.arange(first, min(first + 8 * BLOCK, int(block[-1]) + 1))
            i, j = np.nonzero(rows[block] @ rows[others].T >= threshold - 1e-5)
            i, j = block[i], others[j]
            some = j < i
            i, j = i[some], j[some]
            alike = cosine(rows[i], rows[j]) >= threshold
            i, j = i[alike][::-1], j[alike][::-1]
            unset = home[i] == i
            home[i[unset]] = j[unset]
    return home


def pair(rows: np.ndarray, one: int, other: int) -> float:
    """Cosine of two rows as the method rounds it."""
    return float(cosine(rows[one : one + 1], rows[other : other + 1])[0])


def embedded(rows: int, data: str | None) -> np.ndarray:
    """Embeddings of real rows and copies, unit rows, in an order that is not theirs; texts that repeat only once."""
    made = copies(real_rows(data), rows + rows // 5)
    texts = sorted(set(made.texts))
    order = np.random.default_rng(0).permutation(len(texts))[:rows]
    found = Static().open().embed([texts[i] for i in order])
    return np.ascontiguousarray(found, dtype=np.float32)


if __name__ == "__main__":
    main()
