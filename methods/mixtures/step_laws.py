"""What will the loss be after a longer training? One exponent per measured group, shared by all runs, and each its floor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Exponents that are tried; the papers' fits lie between.
_EXPONENTS = np.geomspace(0.05, 2.0, 40)


def shared_exponent(steps: np.ndarray, losses: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Exponent b, floors (n,) and scales (n,) of ``floor + scale * steps ** -b`` through losses, (n, checkpoints).

    Least squares: for each exponent floors and scales are linear; a scale is not negative (training does not hurt for
    ever), so a run whose loss rises keeps its mean.
    """
    best: tuple[float, float, np.ndarray, np.ndarray] | None = None
    for exponent in _EXPONENTS:
        term = steps**-exponent
        centered = term - term.mean()
        scale = np.maximum((losses @ centered) / (centered @ centered), 0.0)
        floor = losses.mean(axis=1) - scale * term.mean()
        error = float(((floor[:, None] + scale[:, None] * term - losses) ** 2).sum())
        if best is None or error < best[0]:
            best = (error, float(exponent), floor, scale)
    assert best is not None
    return best[1], best[2], best[3]


def extrapolated(results: Sequence[Mapping[str, Any]], times: float) -> list[Mapping[str, Any]]:
    """The results with their ``losses`` at ``times`` the training, read off the ``steps`` of all runs of a group.

    The last measured loss is moved by what the curve says is still to come. A run without a finite loss stays one.
    """
    found: list[dict[str, Any]] = [{**result, "losses": dict(result["losses"])} for result in results]
    for group in results[0]["steps"] if results else ():
        known = [i for i, result in enumerate(results) if all(x is not None for x in result["steps"][group])]
        if not known:
            continue
        traces = np.array([results[i]["steps"][group] for i in known], dtype=np.float64)
        steps = np.arange(1, traces.shape[1] + 1) / traces.shape[1]
        exponent, _, scale = shared_exponent(steps, traces)
        for i, last, s in zip(known, traces[:, -1], scale, strict=True):
            found[i]["losses"][group] = float(last + s * (times**-exponent - 1.0))
    return list(found)
