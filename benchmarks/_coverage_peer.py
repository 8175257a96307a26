"""apricot-select inside an environment of its own: ``python _coverage_peer.py ROWS.npy KEEP``.

Imports nothing of provender. Facility location on all cosines (not below 0), lazy greedy, compiled before it is timed;
prints one JSON line.
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from apricot import FacilityLocationSelection


def main() -> None:
    """Time the similarities and the selection."""
    rows, keep = np.load(sys.argv[1]), int(sys.argv[2])
    FacilityLocationSelection(5, metric="precomputed", optimizer="lazy").fit(np.clip(rows[:50] @ rows[:50].T, 0, 1))
    start = time.perf_counter()
    like = np.clip(rows @ rows.T, 0, 1)
    found = FacilityLocationSelection(keep, metric="precomputed", optimizer="lazy").fit(like)
    seconds = time.perf_counter() - start
    kept = [int(i) for i in found.ranking]
    print(json.dumps({"version": version("apricot-select"), "seconds": seconds, "kept": kept}))


if __name__ == "__main__":
    main()
