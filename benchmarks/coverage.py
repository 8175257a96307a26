"""k-center and facility location of 100,000 vectors down to 5,000, beside a plain loop and apricot-select.

apricot-select, in an environment of its own, gets all similarities of a size whose matrix it can hold, and at full size the
graph of neighbours that ours works on; both sets are judged by the same objective, the sum over all rows of the cosine (not
below 0) to the nearest kept row.
Usage: `OMP_NUM_THREADS=1 python -m benchmarks.coverage [--part centers|facility|peer] [--rows 100000] [--keep 5000]`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._throwaway import environment
from benchmarks._vectors import mixture, peak_gib
from methods.parallel import cores
from methods.points.greedy import facility_location, k_center, nearest_graph

NEIGHBORS = 128
PEER_ROWS, PEER_KEEP, PLAIN_STEPS = 5_000, 250, 100


def main() -> None:
    """Print the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=["centers", "facility", "peer"], action="append", help="all by default")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--keep", type=int, default=5_000)
    chosen = parser.parse_args()
    parts = chosen.part or ["centers", "facility", "peer"]
    print(
        f"{cores()} cores, load {os.getloadavg()[0]:.1f}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    with tempfile.TemporaryDirectory(prefix="provender-coverage-") as name:
        folder = Path(name)
        if parts != ["peer"]:
            rows = np.asarray(mixture(folder / "rows.npy", chosen.rows, 1))
            if "centers" in parts:
                centers(rows, chosen.keep)
            if "facility" in parts:
                facility(folder, rows, chosen.keep)
        if "peer" in parts:
            peer(folder)


def centers(rows: np.ndarray, keep: int) -> None:
    """k-center, and what a loop of one product a step takes (its first steps, continued in proportion)."""
    start = time.perf_counter()
    kept, distance = k_center(rows, keep)
    ours = time.perf_counter() - start
    steps = min(PLAIN_STEPS, keep)
    start = time.perf_counter()
    nearest, at, plain = np.full(len(rows), -np.inf, dtype=np.float32), int((rows @ rows.mean(axis=0)).argmax()), []
    for _ in range(steps):
        plain.append(at)
        np.maximum(nearest, rows @ rows[at], out=nearest)
        nearest[at] = np.inf
        at = int(nearest.argmin())
    loop = (time.perf_counter() - start) / steps * keep
    same = sum(a == b for a, b in zip(plain, kept.tolist(), strict=False))
    print(
        f"k-center {len(rows):,} -> {keep:,}: {ours:.1f} s, radius {distance.max():.4f}; plain loop {loop:.0f} s "
        f"(from {steps} steps) = {loop / ours:.1f} x; its first {steps} centers: {same} the same",
        flush=True,
    )


def facility(folder: Path, rows: np.ndarray, keep: int) -> None:
    """Facility location at full size: the graph, then both lazy greedies on it, and what as many drawn at random are worth."""
    start = time.perf_counter()
    graph = nearest_graph(rows, NEIGHBORS)
    built = time.perf_counter() - start
    kept, _ = facility_location(graph, keep)
    whole = time.perf_counter() - start
    drawn = np.random.default_rng(0).permutation(len(rows))[:keep]
    print(
        f"facility location {len(rows):,} -> {keep:,}: {whole:.1f} s ({built:.1f} s of it the {NEIGHBORS} nearest of each), "
        f"peak {peak_gib():.2f} GiB; mean similarity to the nearest kept {worth(rows, kept):.4f}, of rows drawn at random "
        f"{worth(rows, drawn):.4f}",
        flush=True,
    )
    data, indices, indptr = by_candidate(graph.other, graph.similarity)
    for name, values in (("data", data), ("indices", indices), ("indptr", indptr)):
        np.save(folder / f"{name}.npy", values)
    said = apricot(folder, "graph", folder, keep)
    theirs = worth(rows, np.array(said["kept"]))
    print(
        f"  apricot-select {said['version']} on the same graph, which it is given: {said['seconds']:.1f} s beside our "
        f"{whole - built:.1f} s = {said['seconds'] / (whole - built):.1f} x, mean similarity {theirs:.4f}, ours "
        f"{worth(rows, kept) / theirs:.4f} of it, {len(set(kept.tolist()) & set(said['kept'])):,} rows the same",
        flush=True,
    )


def by_candidate(other: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The graph as apricot-select wants it: for each candidate the rows that it serves (data, indices, indptr)."""
    n, k = other.shape
    order = np.argsort(other.ravel(), kind="stable")
    counts = np.bincount(other.ravel(), minlength=n)
    return (
        similarity.ravel()[order].astype(np.float64),
        (order // k).astype(np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
    )


def apricot(folder: Path, mode: str, place: Path, keep: int) -> dict[str, Any]:
    """What apricot-select chose, and how long it took."""
    python = environment(folder / "env", ["apricot-select==0.6.1", "scikit-learn", "numpy<2.3"])
    done = subprocess.run(  # -P: numba looks for a package `coverage`, and is not to find this file
        [str(python), "-P", str(Path(__file__).with_name("_coverage_peer.py")), mode, str(place), str(keep)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"apricot-select failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peer(folder: Path) -> None:
    """The same objective by apricot-select's lazy greedy on all similarities."""
    rows = np.asarray(mixture(folder / "few.npy", PEER_ROWS, 2))
    start = time.perf_counter()
    kept, _ = facility_location(nearest_graph(rows, NEIGHBORS), PEER_KEEP)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    dense, _ = facility_location(nearest_graph(rows, PEER_ROWS), PEER_KEEP)
    whole = time.perf_counter() - start
    said = apricot(folder, "dense", folder / "few.npy", PEER_KEEP)
    theirs = worth(rows, np.array(said["kept"]))
    print(
        f"facility location {PEER_ROWS:,} -> {PEER_KEEP}: apricot-select {said['version']} {said['seconds']:.1f} s, "
        f"mean similarity {theirs:.5f} (all pairs)\n"
        f"  ours, {NEIGHBORS} nearest: {ours:.2f} s = {said['seconds'] / ours:.1f} x, objective "
        f"{worth(rows, kept) / theirs:.4f} of theirs\n"
        f"  ours, all pairs: {whole:.2f} s = {said['seconds'] / whole:.1f} x, objective "
        f"{worth(rows, dense) / theirs:.4f} of theirs, {len(set(dense.tolist()) & set(said['kept']))} of {PEER_KEEP} rows the same",
        flush=True,
    )


def worth(rows: np.ndarray, kept: np.ndarray) -> float:
    """Mean over all rows of the cosine, not below 0, to the nearest kept row."""
    own = rows[kept].T
    return float(np.mean([np.clip(rows[at : at + 4096] @ own, 0, 1).max(axis=1).sum() for at in range(0, len(rows), 4096)])
                 * len(range(0, len(rows), 4096)) / len(rows))  # fmt: skip


if __name__ == "__main__":
    main()
