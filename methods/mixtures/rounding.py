"""Shares of a budget as whole numbers: fill like water up to each cap, round by largest remainder, take by key."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from methods.keyed import by_key, keyed_hashes
from schemas.errors import InvariantViolation, UsageError


def water_fill(weights: Sequence[float], total: float, caps: Sequence[float]) -> np.ndarray:
    """``total`` in proportion to the weights, float64, no share above its cap; what a cap refuses goes to the others.

    The sum is ``total``, or the sum of the caps of all positive weights where that is less. Raises ``UsageError`` for a
    negative or non-finite weight.
    """
    share = np.asarray(weights, dtype=np.float64)
    limit = np.asarray(caps, dtype=np.float64)
    if not np.isfinite(share).all() or (share < 0).any() or not total >= 0:
        raise UsageError(f"weights must be finite and not negative, and the total not negative; got {weights}, {total}")
    filled = np.zeros(len(share))
    open_ = (share > 0) & (limit > 0)
    left = float(total)
    while open_.any() and left > 0:
        # Scaled by the largest weight first: tiny weights alone must not divide zero by zero.
        scaled = share[open_] / share[open_].max()
        wanted = left * scaled / scaled.sum()
        full = wanted >= limit[open_]
        places = np.flatnonzero(open_)
        if not full.any():
            filled[places] = wanted
            return filled
        filled[places[full]] = limit[places[full]]
        open_[places[full]] = False
        left = float(total) - float(filled.sum())
    return filled


def largest_remainder(weights: Sequence[float], total: int, caps: Sequence[int] | None = None) -> list[int]:
    """``total`` as whole shares: each the floor of its water-filled share, the rest to the largest remainders.

    Ties go to the earlier share. Sums to ``total`` (or to the caps of all positive weights where they hold less), never
    exceeds a cap, and of two shares with equal caps the one of larger weight is not smaller.
    """
    limits = [int(total)] * len(weights) if caps is None else [min(int(cap), int(total)) for cap in caps]
    exact = water_fill(weights, total, limits)
    near = np.rint(exact)
    exact = np.where(np.abs(exact - near) < 1e-9 * max(1, total), near, exact)  # 2.9999999999 is 3
    whole = np.floor(exact).astype(int)
    room = sum(limit for limit, weight in zip(limits, weights, strict=True) if weight > 0)
    missing = min(int(total), room) - int(whole.sum())
    order = sorted(range(len(weights)), key=lambda i: (-(exact[i] - whole[i]), i))
    for i in [i for i in order if whole[i] < limits[i] and weights[i] > 0][:missing]:
        whole[i] += 1
    return [int(n) for n in whole]


def choose(ids: pl.Series, take: int, seed: int) -> pl.DataFrame:
    """Which examples to take so that there are ``take`` in all: columns ``id`` and ``repeat`` (UInt32, at least 1).

    Every example is taken ``take // len(ids)`` times and the remainder without replacement, by ``hash(seed, id)``: row
    order does not matter, and a larger ``take`` contains a smaller one. Rows stand in the order of ``ids``. Raises
    ``InvariantViolation`` where there is nothing to take from.
    """
    return pl.DataFrame({"id": ids, "repeat": times_of(ids, take, seed)}).filter(pl.col("repeat") > 0)


def times_of(ids: pl.Series, take: int, seed: int) -> np.ndarray:
    """How often `choose` takes each example, UInt32, (len(ids),)."""
    if take < 0 or (take and not len(ids)):
        raise InvariantViolation(f"cannot take {take} examples out of {len(ids)}")
    times = np.full(len(ids), take // max(1, len(ids)), dtype=np.uint32)
    if take and len(ids):
        times[by_key(keyed_hashes(ids, seed), ids)[: take % len(ids)]] += 1
    return times


def normalized_weights(weights: Sequence[float], what: str) -> list[float]:
    """The weights over their sum. Raises ``UsageError`` when one is negative or not finite, or all are zero."""
    total = math.fsum(weights)
    if not math.isfinite(total) or any(w < 0 for w in weights) or total <= 0:
        raise UsageError(f"{what}: weights must be finite, not negative and not all zero; got {list(weights)}")
    return [w / total for w in weights]
