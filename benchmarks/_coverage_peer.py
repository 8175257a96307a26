"""apricot-select inside an environment of its own: ``python _coverage_peer.py dense ROWS.npy KEEP`` or ``graph FOLDER KEEP``.

Imports nothing of provender. Facility location, lazy greedy, compiled before it is timed: on all cosines (not below 0), or
on a graph of neighbours that is given (``data``, ``indices`` and ``indptr`` of a sparse matrix, a candidate per row).
Prints one JSON line.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from apricot import FacilityLocationSelection
from scipy.sparse import csr_matrix


def main() -> None:
    """Time the selection, and the similarities where there is no graph."""
    mode, place, keep = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    small = np.clip(np.corrcoef(np.random.default_rng(0).normal(size=(50, 9))), 0, 1)
    selected(csr_matrix(small) if mode == "graph" else small, 5)
    if mode == "graph":
        parts = tuple(np.load(place / f"{name}.npy") for name in ("data", "indices", "indptr"))
        like = csr_matrix(parts, shape=(len(parts[2]) - 1, len(parts[2]) - 1))
        start = time.perf_counter()
    else:
        rows = np.load(place)
        start = time.perf_counter()
        like = np.clip(rows @ rows.T, 0, 1)
    kept = selected(like, keep)
    seconds = time.perf_counter() - start
    print(json.dumps({"version": version("apricot-select"), "seconds": seconds, "kept": kept}))


def selected(like: "np.ndarray | csr_matrix", keep: int) -> list[int]:
    found = FacilityLocationSelection(keep, metric="precomputed", optimizer="lazy").fit(like)
    return [int(i) for i in found.ranking]


if __name__ == "__main__":
    main()
