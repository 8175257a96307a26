"""Choosing inside a group of candidates: the best, the best few, a pair, the top share of all; ties by position.

A group is given in an order that belongs to its candidates (ids, sample indices), so a choice never depends on the order
of the pool. ``None`` is a candidate without a score: it is never chosen.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

Score = float | None


@dataclass(frozen=True)
class Pair:
    """Positions of a chosen and a rejected candidate."""

    chosen: int
    rejected: int


def by_score(scores: Sequence[Score]) -> list[int]:
    """Positions of the scored candidates, best first, the earlier of equals first.

    >>> by_score([0.1, None, 0.7, 0.7])
    [2, 3, 0]
    """
    present = [(-score, i) for i, score in enumerate(scores) if score is not None]
    return [i for _, i in sorted(present)]


def best(scores: Sequence[Score]) -> int | None:
    """Position of the highest score, the earliest of equals; None when there is no score."""
    order = by_score(scores)
    return order[0] if order else None


def top_share(scores: Sequence[Score], share: float) -> set[int]:
    """Positions of the ``int(share * n)`` highest of all ``n`` candidates (at least one), the earlier of equals.

    >>> top_share([0.5, 0.9, 0.5, None, 0.1], 0.4) == {0, 1}
    True
    """
    wanted = max(1, int(len(scores) * share + 1e-9))
    return set(by_score(scores)[:wanted])


def ends_of_range(
    rewards: Sequence[float], p: float, mode: Literal["range", "rank"] = "range"
) -> tuple[list[int], list[int]]:
    """Positions within ``p`` of the highest and within ``p`` of the lowest reward (DivPO's two pools).

    ``range``: ``p`` is a fraction of the distance between highest and lowest; ``rank``: of the number of candidates
    (at least one each), ties by position. ``p`` 0 is best and worst only, 0.5 leaves nobody out.

    >>> ends_of_range([0.0, 1.0, 0.9, 0.2], 0.25), ends_of_range([0.0, 1.0, 0.9, 0.2], 0.0)
    (([1, 2], [0, 3]), ([1], [0]))
    """
    if not rewards:
        return [], []
    if mode == "rank":
        order = by_score(rewards)
        count = max(1, math.floor(p * len(order) + 0.5))
        return sorted(order[:count]), sorted(order[-count:])
    low, high = min(rewards), max(rewards)
    reach = p * (high - low)
    tiny = 1e-12 * max(1.0, abs(low), abs(high))  # p = 0.5 must leave nobody out, whatever the rounding
    return (
        [i for i, reward in enumerate(rewards) if reward >= high - reach - tiny],
        [i for i, reward in enumerate(rewards) if reward <= low + reach + tiny],
    )


def diverse_pair(
    rewards: Sequence[float],
    diversity: Sequence[float],
    same: Sequence[Hashable],
    p: float,
    mode: Literal["range", "rank"] = "range",
) -> Pair | None:
    """DivPO's pair: the most diverse of the well rewarded against the least diverse of the badly rewarded.

    Candidates with equal ``same`` are the same answer, and no pair is made of those; nor of a rejected candidate with a
    higher reward than the chosen one, which pools that overlap (``rank`` with ties) would allow. None: no pair.
    """
    good, bad = ends_of_range(rewards, p, mode)
    for chosen in sorted(good, key=lambda i: (-diversity[i], i)):
        others = [i for i in bad if same[i] != same[chosen] and rewards[i] <= rewards[chosen]]
        if others:
            return Pair(chosen, min(others, key=lambda i: (diversity[i], i)))
    return None


def inverse_frequency(features: Sequence[Sequence[Hashable]]) -> list[float]:
    """How rare each candidate's features are in its group: the mean of 1 / (candidates that have the feature), 0 to 1.

    An answer that is there m times scores at most 1/m. A candidate without features scores 0.

    >>> inverse_frequency([["a", "b"], ["a"], ["c"]])
    [0.75, 0.5, 1.0]
    """
    counts = Counter(feature for one in features for feature in set(one))
    return [math.fsum(1 / counts[f] for f in set(one)) / len(set(one)) if one else 0.0 for one in features]


def distinct(
    keys: Sequence[Hashable], texts: Sequence[str], keep: Literal["first", "farthest"] = "first"
) -> dict[Hashable, int]:
    """One position per key: the first, or, with ``farthest``, the one farthest from the other keys' texts.

    ``farthest``: candidates come one by one; a later one takes its key's place if the sum of its edit distances to the
    texts that stand for the other keys is larger than that of the one it replaces.
    """
    held: dict[Hashable, int] = {}
    for i, key in enumerate(keys):
        if key not in held:
            held[key] = i
        elif keep == "farthest":
            others = [texts[j] for other, j in held.items() if other != key]
            if _apart(texts[i], others) > _apart(texts[held[key]], others):
                held[key] = i
    return held


def _apart(text: str, others: Sequence[str]) -> int:
    return sum(Levenshtein.distance(text, other) for other in others)
