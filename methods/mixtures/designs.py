"""Which mixtures are worth a proxy run? Designs of runs: Dirichlet draws, lattices, halvings, one source at a time."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np


def dirichlet(
    prior: np.ndarray,
    count: int,
    rng: np.random.Generator,
    *,
    temper: float = 0.5,
    strengths: tuple[float, float] = (0.1, 5.0),
    most_over_prior: float = 15.0,
    apart: float = 0.02,
) -> np.ndarray:
    """``count`` mixtures, float64, (count, k): the prior, the uniform one, and Dirichlet draws around the tempered prior.

    The concentration of a draw, averaged over the sources, is one of 15 strengths spaced evenly in the logarithm, in
    turn, so that some draws are near one source and others near the middle. A draw in which a source has more than
    ``most_over_prior`` times its prior, or whose shares differ by no more than ``apart`` in all from an earlier one, is
    drawn again (up to 100 times).

    Paper: Liu et al. 2025, RegMix, https://arxiv.org/abs/2407.01492; there the strength is that of all sources together,
    which for a handful of sources gives hardly anything but single ones.
    """
    kept = prior > 0
    tempered = np.where(kept, prior, 0.0) ** temper * kept
    tempered = tempered / tempered.sum() * kept.sum()
    levels = np.geomspace(*strengths, 15)
    found = [prior / prior.sum(), kept / kept.sum()][:count]
    while len(found) < count:
        drawn = np.zeros(len(prior))
        for _ in range(100):
            drawn[kept] = rng.dirichlet(np.maximum(levels[len(found) % len(levels)] * tempered[kept], 1e-3))
            fair = np.isfinite(drawn).all() and (drawn <= most_over_prior * np.maximum(prior, 1e-12)).all()
            if fair and min(np.abs(drawn - other).sum() for other in found) > apart:
                break
        found.append(drawn if np.isfinite(drawn).all() else kept / kept.sum())
    return np.array(found)


def lattice(sources: int, parts: int) -> np.ndarray:
    """Every mixture whose shares are multiples of ``1 / parts``, (n, sources), the single sources among them."""
    return np.array([[n / parts for n in whole] for whole in _compositions(parts, sources)])


def halvings(sources: int, count: int, rng: np.random.Generator, *, smallest: float = 1 / 16) -> np.ndarray:
    """``count`` different mixtures, (n, sources), in which amounts are 1, 1/2, 1/4 … ``smallest`` or 0 of the largest.

    The single sources and the uniform mixture first, the others drawn without replacement; fewer where there are not so
    many (two sources have eleven).

    Paper: Ye et al. 2025, Data Mixing Laws, https://arxiv.org/abs/2403.16952, appendix: the grid of their runs.
    """
    levels = np.array([0.0, *(0.5**power for power in range(round(-np.log2(smallest)) + 1))])
    first = np.vstack([np.eye(sources), np.ones((1, sources))])
    if len(levels) ** sources <= 300_000:
        drawn = levels[np.array(list(product(range(len(levels)), repeat=sources)))]
        drawn = drawn[rng.permutation(len(drawn))]
    else:
        drawn = levels[rng.integers(0, len(levels), (20 * count, sources))]
    amounts = np.vstack([first, drawn[drawn.max(axis=1) == 1]])
    shares = np.round(amounts / amounts.sum(axis=1, keepdims=True), 12)
    _, places = np.unique(shares, axis=0, return_index=True)
    return shares[np.sort(places)][:count]


def one_at_a_time(amounts: Sequence[int], factor: float) -> list[list[int]]:
    """The amounts, then those with each source in turn divided and multiplied by ``factor``: 2k + 1 rows."""
    rows = [list(amounts)]
    for i, amount in enumerate(amounts):
        for changed in (amount / factor, amount * factor):
            rows.append([*amounts[:i], max(1, round(changed)), *amounts[i + 1 :]])
    return rows


def spiked(sources: int, share: float) -> np.ndarray:
    """One mixture per source: it has ``share``, the others the rest in equal parts; .75 of three leaves .125 each."""
    rest = (1 - share) / max(1, sources - 1)
    return np.full((sources, sources), rest) + np.eye(sources) * (share - rest)


def _compositions(total: int, places: int) -> Iterator[tuple[int, ...]]:
    if places == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, places - 1):
            yield (first, *rest)
