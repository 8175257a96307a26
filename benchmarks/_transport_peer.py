"""POT's stabilized Sinkhorn inside an environment of its own: ``python _transport_peer.py FOLDER EPSILON``.

Imports nothing of provender. Reads ``few.npy`` and ``aims.npy``, writes the source potential to ``theirs.npy`` and prints
one JSON line.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import ot


def main() -> None:
    """Solve once and time it, costs included."""
    folder, epsilon = Path(sys.argv[1]), float(sys.argv[2])
    rows, goals = np.load(folder / "few.npy"), np.load(folder / "aims.npy")
    start = time.perf_counter()
    cost = ot.dist(rows.astype(np.float64), goals.astype(np.float64))  # in float32 its plan does not add up
    n, m = cost.shape
    source, target = np.full(n, 1 / n, dtype=cost.dtype), np.full(m, 1 / m, dtype=cost.dtype)
    plan, log = ot.bregman.sinkhorn_stabilized(
        source, target, cost, epsilon, numItermax=500, stopThr=1e-4, log=True, warn=False
    )
    seconds = time.perf_counter() - start
    np.save(folder / "theirs.npy", epsilon * np.asarray(log["logu"], dtype=np.float64))
    error = float(np.abs(plan.sum(0) - target).sum())
    rounds = 500 if log["err"][-1] > 1e-4 else "fewer than 500"
    print(
        json.dumps(
            {
                "version": ot.__version__,
                "seconds": seconds,
                "error": error,
                "rounds": rounds,
                "total": float(plan.sum()),
            }
        )
    )


if __name__ == "__main__":
    main()
