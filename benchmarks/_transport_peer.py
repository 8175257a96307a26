"""POT's Sinkhorn solvers inside an environment of its own: ``python _transport_peer.py FOLDER EPSILON``.

Imports nothing of provender. Reads ``few.npy`` and ``aims.npy``, solves by each of POT's methods to the same tolerance,
writes the source potential of the quickest that converged to ``theirs.npy`` and prints one JSON line.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import ot

METHODS = ("sinkhorn", "sinkhorn_log")  # sinkhorn_stabilized ends far from both marginals on this problem


def main() -> None:
    """Time the costs, then each method; its marginal errors say whether it solved the problem."""
    folder, epsilon = Path(sys.argv[1]), float(sys.argv[2])
    rows, goals = np.load(folder / "few.npy"), np.load(folder / "aims.npy")
    start = time.perf_counter()
    cost = ot.dist(rows.astype(np.float64), goals.astype(np.float64))  # in float32 its plans do not add up
    costs = time.perf_counter() - start
    n, m = cost.shape
    source, target = np.full(n, 1 / n), np.full(m, 1 / m)
    found, best = {}, np.inf
    for name in METHODS:
        start = time.perf_counter()
        plan, log = ot.sinkhorn(
            source, target, cost, epsilon, method=name, numItermax=500, stopThr=1e-4, log=True, warn=False
        )
        seconds = time.perf_counter() - start + costs
        error = float(np.abs(plan.sum(0) - target).sum() + np.abs(plan.sum(1) - source).sum())
        found[name] = {"seconds": seconds, "error": error}
        if error < 1e-3 and seconds < best:
            best = seconds
            scale = log["log_u"] if "log_u" in log else np.log(log["u"])
            np.save(folder / "theirs.npy", epsilon * np.asarray(scale, dtype=np.float64))
    print(json.dumps({"version": ot.__version__, "methods": found}))


if __name__ == "__main__":
    main()
