"""Two numbers that say how an example's gradient is spread: nuclear norm and effective rank, from singular values."""

from collections.abc import Mapping, Sequence

import numpy as np


def nuclear_norm(singular: Sequence[float] | np.ndarray) -> float:
    """Sum of the singular values.

    >>> nuclear_norm([4.0, 3.0, 0.0])
    7.0
    """
    return float(np.sum(singular))


def effective_rank(singular: Sequence[float] | np.ndarray) -> float:
    """``exp(entropy of the singular values as shares)``: 1 for one direction, n for n equal ones, 0 where all are 0.

    Paper: Roy and Vetterli 2007, The effective rank, https://ieeexplore.ieee.org/document/7098875

    >>> round(effective_rank([4.0, 3.0, 0.0]), 6), round(effective_rank([3.0, 1.0]), 6)
    (1.979626, 1.754765)
    """
    values = np.asarray(singular, dtype=np.float64)
    values = values[values > 0]
    if not len(values):
        return 0.0
    share = values / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def summary(spectra: Mapping[str, Sequence[np.ndarray]]) -> tuple[float, float]:
    """Nuclear norm and effective rank, each a mean over the layers of a matrix and then over the matrices."""
    layers = [
        (np.mean([nuclear_norm(s) for s in per_layer]), np.mean([effective_rank(s) for s in per_layer]))
        for per_layer in spectra.values()
    ]
    return float(np.mean([nuclear for nuclear, _ in layers])), float(np.mean([rank for _, rank in layers]))
