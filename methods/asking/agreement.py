"""Sample-and-agree: one value from several, with every tie rule explicit and failures left out, never filled in."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V", bound=Hashable)


@dataclass(frozen=True)
class Vote(Generic[V]):
    """A majority among those who voted: ``share`` is winner's votes / all votes cast, in (0, 1]."""

    winner: V
    share: float
    votes: int
    tied: bool


def majority(values: Sequence[V | None]) -> Vote[V] | None:
    """The commonest value; among equals the one that was seen first. ``None`` is an abstention; None if all abstain.

    >>> majority(["4", None, "5", "4"])
    Vote(winner='4', share=0.6666666666666666, votes=3, tied=False)
    """
    cast = [value for value in values if value is not None]
    if not cast:
        return None
    counts = Counter(cast)
    winner, most = counts.most_common(1)[0]
    return Vote(winner, most / len(cast), len(cast), sum(n == most for n in counts.values()) > 1)


def shortest_majority(values: Sequence[str]) -> Vote[str] | None:
    """The commonest text; of those equally common the shortest, then the one that was seen first. None without any.

    >>> shortest_majority(["bb", "a", "bb", "a"])
    Vote(winner='a', share=0.5, votes=4, tied=True)
    """
    counts = Counter(values)
    if not counts:
        return None
    most = max(counts.values())
    equals = [value for value, count in counts.items() if count == most]
    return Vote(min(equals, key=len), most / len(values), len(values), len(equals) > 1)


def mean_of_present(values: Sequence[float | None]) -> float | None:
    """Mean over those that are there; None when none is."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def agree_in_both_orders(first: str, swapped: str) -> str:
    """A pairwise verdict asked twice, the second time with the answers exchanged: ``A``, ``B`` or ``tie``.

    ``swapped`` is in the second order's own words; the two agree when both mean the same answer.

    >>> agree_in_both_orders("A", "B"), agree_in_both_orders("A", "A")
    ('A', 'tie')
    """
    meant = {"A": "B", "B": "A"}.get(swapped, "tie")
    return first if first == meant else "tie"


def weighted(parts: Sequence[tuple[float, float | None]]) -> float | None:
    """Weighted mean over (weight, value) with absent values left out and weights rescaled; None when all are absent.

    >>> weighted([(0.7, 0.5), (0.3, None)])
    0.5
    """
    present = [(weight, value) for weight, value in parts if value is not None and weight > 0]
    if len(present) == 1:
        return present[0][1]  # exactly, even where the weight is too small to divide by
    total = sum(weight for weight, _ in present)
    return sum(weight * value for weight, value in present) / total if present else None
