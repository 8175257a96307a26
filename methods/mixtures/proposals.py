"""From fitted laws to a mixture: an exact minimum where the laws have slopes, many simulated mixtures where they do not."""

from collections.abc import Sequence

import numpy as np

from methods.mixtures.laws import Fitted
from methods.mixtures.simplex import Minimum, minimize, within


def predicted(fits: Sequence[Fitted], weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean loss of all groups under ``weights``, (n,), of mixtures (n, k)."""
    return np.stack([fit.predict(shares) for fit in fits], axis=1) @ weights


def best_shares(
    fits: Sequence[Fitted],
    weights: np.ndarray,
    prior: np.ndarray,
    caps: np.ndarray,
    *,
    kl: float = 0.0,
    starts: Sequence[np.ndarray] = (),
    tolerance: float = 1e-9,
) -> Minimum:
    """The mixture of least ``mean loss + kl * KL(mixture || prior)`` under caps on the shares.

    Within ``tolerance`` nats of the least for convex laws (exponential, linear): one start is enough. For others the best
    over ``starts`` and the prior.

    Paper: Chen et al. 2026, OLMix, https://arxiv.org/abs/2602.12237, for the objective.
    """

    def objective(shares: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.0, np.zeros(len(shares))
        for fit, weight in zip(fits, weights, strict=True):
            by_share = fit.slope(shares)
            assert by_share is not None, "a law without slopes is proposed for by simulation"
            value += weight * float(fit.predict(shares[None, :])[0])
            slope += weight * by_share
        return value, slope

    inside = (prior > 0) & (caps > 0)
    even = inside / inside.sum()
    found = [
        minimize(
            objective,
            0.999 * start * inside + 0.001 * even,
            caps,
            prior=prior,
            kl=kl,
            tolerance=tolerance,
            max_steps=3000,
        )
        for start in (prior, *starts)
    ]
    return min(found, key=lambda one: one.value)


def simulated_best(
    fits: Sequence[Fitted],
    weights: np.ndarray,
    prior: np.ndarray,
    caps: np.ndarray,
    rng: np.random.Generator,
    *,
    count: int = 100_000,
    top_fraction: float = 128 / 100_000,
) -> np.ndarray:
    """The mean of the mixtures of lowest predicted loss among ``count`` simulated ones, shares (k,): RegMix's proposer."""
    cloud = within_rows(dirichlet_cloud(prior, count, rng), caps)
    said = predicted(fits, weights, cloud)
    top = np.argsort(said, kind="stable")[: max(1, round(count * top_fraction))]
    return within(cloud[top].mean(axis=0), caps)


def dirichlet_cloud(
    prior: np.ndarray, count: int, rng: np.random.Generator, strengths: tuple[float, float] = (0.1, 5.0)
) -> np.ndarray:
    """``count`` mixtures around the prior, (count, k), from nearly single sources to nearly the prior itself."""
    inside = prior > 0
    level = np.exp(rng.uniform(np.log(strengths[0]), np.log(strengths[1]), (count, 1)))
    concentration = np.maximum(level * (prior / prior.sum()) * inside.sum(), 1e-3)
    drawn = rng.standard_gamma(np.broadcast_to(concentration, (count, len(prior)))) * inside
    total = drawn.sum(axis=1, keepdims=True)
    return np.where(total > 0, drawn / np.where(total > 0, total, 1.0), prior / prior.sum())


def within_rows(shares: np.ndarray, caps: np.ndarray) -> np.ndarray:
    """`methods.mixtures.simplex.within` for many mixtures at once, (n, k); a zero share's rest goes to the others' caps."""
    found = np.minimum(shares, caps)
    for _ in range(shares.shape[1]):
        missing = 1 - found.sum(axis=1, keepdims=True)
        if (missing <= 1e-12).all():
            break
        room = np.where(found < caps, np.maximum(found, 1e-12), 0.0)
        total = room.sum(axis=1, keepdims=True)
        found = np.minimum(found + missing * room / np.where(total > 0, total, 1.0), caps)
    return found
