"""What data of one category is worth to another, and the shares that make the most of it without going far."""

from collections.abc import Sequence

import numpy as np

from schemas.errors import UsageError


def equivalence(amounts: Sequence[float], alone: Sequence[float], mixed: float, own: float, other: float) -> float:
    """How much of a category's own data one unit of another's replaces, -own/other to what the longest run allows.

    ``alone`` are the category's losses after ``amounts`` of its own data, ``mixed`` the one after ``own`` of it and
    ``other`` of the other's: the amount of own data that would have given ``mixed``, by a line through loss against the
    logarithm of the amount, less ``own``, over ``other``. 0 where its own data does not lower the loss: nothing can be
    said in its units.

    >>> round(equivalence([100, 200, 400], [3.0, 2.5, 2.0], 2.75, 100, 100), 4)
    0.4142
    """
    slope, start = np.polyfit(np.log(np.asarray(amounts, dtype=np.float64)), np.asarray(alone, dtype=np.float64), 1)
    if not np.isfinite(slope) or slope >= -1e-9 or not np.isfinite(mixed):
        return 0.0
    worth = float(np.exp(min((mixed - start) / slope, np.log(max(amounts)))))
    return (worth - own) / other


def best_within_reach(
    scores: np.ndarray, start: np.ndarray, reach: float, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Shares, (k,), of the largest ``scores @ shares`` that sum to 1, moving no more than ``reach`` of the whole.

    An exact solution of the linear programme with bounds: mass goes from the lowest score to the highest, ties by
    position. What the bounds force is moved even beyond ``reach``. Raises ``UsageError`` for bounds without room.

    >>> best_within_reach(np.array([0.59, 0.63, 0.33]), np.array([0.5, 0.3, 0.2]), 0.03, np.zeros(3), np.ones(3)).round(9)
    array([0.5 , 0.33, 0.17])
    """
    if low.sum() > 1 + 1e-9 or high.sum() < 1 - 1e-9 or (low > high + 1e-12).any():
        raise UsageError(
            f"shares of at least {low.sum():.3g} and at most {high.sum():.3g} in all leave no room for a sum of 1; "
            "lower `min_share` or raise `max_repeats`"
        )
    shares = np.clip(start, low, high)
    best, worst = np.argsort(-scores, kind="stable"), np.argsort(scores, kind="stable")
    short = 1.0 - float(shares.sum())
    _fill(shares, best, short, high) if short > 0 else _drain(shares, worst, -short, low)
    left = reach - max(np.maximum(shares - start, 0).sum(), np.maximum(start - shares, 0).sum())
    for giver in worst:
        for taker in best:
            if scores[taker] <= scores[giver]:
                break
            moved = min(left, shares[giver] - low[giver], high[taker] - shares[taker])
            if moved > 0:
                shares[giver] -= moved
                shares[taker] += moved
                left -= moved
    return shares


def _fill(shares: np.ndarray, order: np.ndarray, amount: float, high: np.ndarray) -> None:
    for place in order:
        given = min(amount, float(high[place] - shares[place]))
        shares[place] += given
        amount -= given


def _drain(shares: np.ndarray, order: np.ndarray, amount: float, low: np.ndarray) -> None:
    for place in order:
        taken = min(amount, float(shares[place] - low[place]))
        shares[place] -= taken
        amount -= taken
