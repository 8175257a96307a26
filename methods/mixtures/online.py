"""Rules that move a mixture while a model learns: Skill-It's graph, DoReMi's excess, Aioli's mixing law, ODM's bandit.

Shares are float64, (k,), sum 1; losses are nats. k sources are learned from, m groups measured.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from methods.mixtures.simplex import exponentiated, smoothed, softmax


def skill_graph(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How much learning source i lowers the loss of group j: relative drops, never negative, scaled to a maximum of 1.

    ``before`` is (m,), ``after`` (k, m): the losses after a short run on source i alone. All zero where nothing helps.
    Paper: Chen et al. 2023, Skill-It, https://arxiv.org/abs/2307.14430, algorithm 3 (the approximate one).
    """
    drops = np.maximum(0.0, (before - after) / before)
    return drops / drops.max() if drops.max() > 0 else drops


def skill_it_start(graph: np.ndarray, rate: float) -> np.ndarray:
    """The first mixture, ``softmax(rate * row sums)``; LEGO's graph with .5 gives .117901 for all skills but .528396."""
    return softmax(rate * graph.sum(axis=1))


def skill_it(
    graph: np.ndarray, losses: Sequence[np.ndarray], rate: float, reduce: Literal["sum", "mean"] = "sum"
) -> np.ndarray:
    """The next mixture, ``softmax(rate * graph @ L)`` with L the losses of the last evaluations, summed or averaged.

    Paper: Chen et al. 2023, Skill-It, https://arxiv.org/abs/2307.14430, equation 4; each update starts from ones.
    """
    seen = np.sum(losses, axis=0) if reduce == "sum" else np.mean(losses, axis=0)
    return softmax(rate * (graph @ seen))


def doremi(shares: np.ndarray, excess: np.ndarray, rate: float, uniform_share: float) -> np.ndarray:
    """``shares * exp(rate * max(0, excess))``, normalized, then smoothed; excess is the proxy's loss minus the reference's.

    Paper: Xie et al. 2023, DoReMi, https://arxiv.org/abs/2305.10429, algorithm 1
    """
    return smoothed(exponentiated(shares, np.maximum(excess, 0.0), rate), uniform_share)


def mixing_matrix(drops: np.ndarray, mixtures: np.ndarray) -> np.ndarray:
    """A, (m, k), of the linear mixing law ``drops = A @ mixtures``, least squares; drops (m, n), mixtures (k, n).

    Paper: Chen et al. 2025, Aioli, https://arxiv.org/abs/2411.05735, algorithm 2
    """
    return np.linalg.lstsq(mixtures.T, drops.T, rcond=None)[0].T


def normalized_matrix(matrix: np.ndarray) -> np.ndarray:
    """Shifted to be nowhere negative, over its sum; all alike where it is zero."""
    shifted = matrix - min(0.0, float(matrix.min()))
    total = float(shifted.sum())
    return shifted / total if total > 0 else np.full(matrix.shape, 1 / matrix.size)


def aioli(shares: np.ndarray, matrix: np.ndarray, rate: float) -> np.ndarray:
    """``shares * exp(rate * column sums of A)``, normalized: more of what lowers the losses of all groups."""
    return exponentiated(shares, matrix.sum(axis=0), rate)


def odm_exploration(arms: int, step: int, floor: float = 0.03) -> float:
    """``min(1/K, sqrt(ln K / (K t)))``, not below ``floor`` (nor above 1/K); step counts from 1.

    Paper: Albalak et al. 2023, Online Data Mixing, https://arxiv.org/abs/2312.02406, algorithm 1
    """
    return min(1 / arms, max(floor, float(np.sqrt(np.log(arms) / (arms * step))))) if arms > 1 else 0.0


def odm(rewards: np.ndarray, exploration_before: float, exploration: float) -> np.ndarray:
    """``(1 - K e) softmax(e_before * rewards) + e``: the bandit's mixture."""
    return (1 - len(rewards) * exploration) * softmax(exploration_before * rewards) + exploration


def odm_reward(rewards: np.ndarray, arm: int, loss: float, shares: np.ndarray, memory: float) -> np.ndarray:
    """Rewards after a batch of one arm: its moving average of ``loss / share``; the others' stay."""
    found = rewards.copy()
    found[arm] = memory * found[arm] + (1 - memory) * loss / float(shares[arm])
    return found
