"""GOT-D of a million candidates against 5,000 targets: minutes, memory, and rank agreement with solving it whole.

Vectors are drawn from a mixture of Gaussians (384 numbers, 200 kinds; the target prefers the rare ones). The whole solve
is Sinkhorn over all candidates; POT, in an environment of its own, gets a size that it can hold.
Usage: `OMP_NUM_THREADS=1 python -m benchmarks.got_d [--part scale|agree|peer] [--candidates 1000000] [--targets 5000]`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._throwaway import environment
from benchmarks._vectors import mixture, peak_gib
from methods.parallel import cores
from methods.points.transport import calibrated_gradient, sinkhorn, squared_distances
from methods.rank.got_d import got_gradient

EPSILON, SUBSAMPLE, SUBSAMPLES = 0.05, 3000, 4
AGREE, PEER = (20_000, 5_000), (10_000, 5_000)


def main() -> None:
    """Print the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=["scale", "agree", "peer"], action="append", help="all by default")
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--targets", type=int, default=5_000)
    parser.add_argument("--whole", type=int, default=AGREE[0], help="candidates of the whole solve")
    chosen = parser.parse_args()
    parts = chosen.part or ["scale", "agree", "peer"]
    print(
        f"{cores()} cores, load {os.getloadavg()[0]:.1f}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    with tempfile.TemporaryDirectory(prefix="provender-got-d-") as name:
        folder = Path(name)
        if "scale" in parts:
            scale(folder, chosen.candidates, chosen.targets)
        if "agree" in parts:
            agree(folder, chosen.whole, min(chosen.targets, AGREE[1]))
        if "peer" in parts:
            peer(folder, *PEER)


def draws(count: int) -> list[np.ndarray]:
    """The subsamples that the duals are solved on."""
    return [np.random.default_rng(k).permutation(count)[:SUBSAMPLE] for k in range(SUBSAMPLES)]


def scale(folder: Path, candidates: int, targets: int) -> None:
    """Wall and processor seconds and peak memory of all candidates."""
    rows, goals = mixture(folder / "rows.npy", candidates, 1), mixture(folder / "goals.npy", targets, 2, tilt=1.0)
    wall, cpu = time.perf_counter(), time.process_time()
    gradient, _ = got_gradient(rows, np.asarray(goals), draws(candidates), EPSILON)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert np.isfinite(gradient).all()
    print(
        f"{candidates:,} x {rows.shape[1]} against {targets:,}, {SUBSAMPLES} duals on {SUBSAMPLE:,} each: "
        f"{wall / 60:.2f} min wall, {cpu / 60:.2f} min of processor, peak {peak_gib():.2f} GiB (mapped input counted)",
        flush=True,
    )


def agree(folder: Path, candidates: int, targets: int) -> None:
    """Spearman and overlap of the best thousand with the whole solve."""
    rows = np.asarray(mixture(folder / "some.npy", candidates, 3))
    goals = np.asarray(mixture(folder / "their.npy", targets, 2, tilt=1.0))
    start = time.perf_counter()
    several, _ = got_gradient(rows, goals, draws(candidates), EPSILON)
    quick = time.perf_counter() - start
    one, _ = got_gradient(rows, goals, draws(candidates)[:1], EPSILON)
    cost = squared_distances(rows, goals)
    epsilon = EPSILON * float(squared_distances(rows[draws(candidates)[0]], goals).mean())
    start = time.perf_counter()
    duals = sinkhorn(cost, epsilon)
    whole = time.perf_counter() - start
    exact = calibrated_gradient(duals.source)
    print(
        f"{candidates:,} x {targets:,}: whole solve {whole:.1f} s ({duals.rounds} rounds, marginal error {duals.error:.1e}), "
        f"extended {quick:.1f} s = {whole / quick:.1f} x"
    )
    for label, found in (("1 draw", one), (f"{SUBSAMPLES} draws", several)):
        print(
            f"  {label}: Spearman {spearman(found, exact):.4f}, best 1,000 shared {overlap(found, exact, 1000):.3f}",
            flush=True,
        )


def peer(folder: Path, candidates: int, targets: int) -> None:
    """The same whole solve by POT, to the same tolerance."""
    rows = np.asarray(mixture(folder / "few.npy", candidates, 4))
    goals = np.asarray(mixture(folder / "aims.npy", targets, 2, tilt=1.0))
    start = time.perf_counter()
    cost = squared_distances(rows, goals)
    epsilon = EPSILON * float(cost.mean())
    duals = sinkhorn(cost, epsilon)
    ours = time.perf_counter() - start
    np.save(folder / "duals.npy", duals.source)
    python = environment(folder / "env", ["pot==0.9.7.post1"])
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("_transport_peer.py")), str(folder), str(epsilon)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"POT failed:\n{done.stderr}")
    said = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{candidates:,} x {targets:,}, whole: ours {ours:.2f} s ({duals.rounds} rounds, marginal error {duals.error:.1e})"
    )
    for name, one in sorted(said["methods"].items(), key=lambda item: item[1]["seconds"]):
        solved = f"{one['seconds'] / ours:.1f} x" if one["error"] < 1e-3 else "did not converge"
        print(f"  POT {said['version']} {name}: {one['seconds']:.2f} s, marginal error {one['error']:.1e}: {solved}")
    theirs = calibrated_gradient(np.load(folder / "theirs.npy"))
    print(f"  Spearman of the gradients {spearman(calibrated_gradient(duals.source), theirs):.5f}", flush=True)


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation; ties are not expected."""
    return float(np.corrcoef(np.argsort(np.argsort(one)), np.argsort(np.argsort(other)))[0, 1])


def overlap(one: np.ndarray, other: np.ndarray, count: int) -> float:
    """Share of the ``count`` smallest that both have."""
    return len(set(np.argsort(one)[:count].tolist()) & set(np.argsort(other)[:count].tolist())) / count


if __name__ == "__main__":
    main()
