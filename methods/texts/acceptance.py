"""Greedy acceptance: candidates in order, each compared with all that stand, accepted ones standing at once."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from methods.texts.metrics import Neighbor, RougePool

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Standing(Protocol[T_contra]):
    """The similarity oracle: what stands, what of it is too near, and what is nearest. Positions count from 0."""

    def too_near(self, candidate: T_contra) -> Neighbor | None:
        """The standing item that forbids the candidate, or None."""
        ...

    def nearest(self, candidate: T_contra, count: int) -> Sequence[Neighbor]:
        """The ``count`` most similar standing items, best first, earlier ones first among equals."""
        ...

    def mean(self, candidate: T_contra) -> float:
        """Mean similarity to everything that stands; 0 where nothing does."""
        ...

    def add(self, accepted: T_contra) -> int:
        """Let an item stand; its position."""
        ...


@dataclass(frozen=True)
class Decision(Generic[T]):
    """What became of a candidate.

    ``position`` is its place among what stands, None when it was dropped; ``neighbors`` are the nearest at that moment,
    for a dropped one only the item that forbade it; ``mean`` is the mean similarity to all, where it was asked for.
    """

    candidate: T
    position: int | None
    neighbors: tuple[Neighbor, ...]
    mean: float | None = None


def accept_greedily(
    candidates: Iterable[T], standing: Standing[T], *, neighbors: int = 0, means: bool = False
) -> list[Decision[T]]:
    """Decide in order; an accepted candidate stands before the next one is looked at: order is part of the result.

    ``means`` asks for the mean similarity of accepted ones too, which looks at everything that stands.
    """
    decisions: list[Decision[T]] = []
    for candidate in candidates:
        forbids = standing.too_near(candidate)
        if forbids is not None:
            decisions.append(Decision(candidate, None, (forbids,)))
            continue
        near = tuple(standing.nearest(candidate, neighbors)) if neighbors else ()
        mean = standing.mean(candidate) if means else None
        decisions.append(Decision(candidate, standing.add(candidate), near, mean))
    return decisions


class RougeStanding:
    """Texts stand if their ROUGE-L F1 to all that stand is below ``limit`` (with ``at_limit_kept``: not above it)."""

    def __init__(
        self, tokens: Callable[[str], Sequence[str]], limit: float, *, at_limit_kept: bool, texts: Iterable[str] = ()
    ) -> None:
        self._tokens = tokens
        self._pool = RougePool(tokens(text) for text in texts)
        self._above = limit if at_limit_kept else math.nextafter(limit, -1.0)  # `nearest_above` is strict

    def __len__(self) -> int:
        return len(self._pool)

    def too_near(self, candidate: str) -> Neighbor | None:
        """The nearest standing text past the limit."""
        return self._pool.nearest_above(self._tokens(candidate), self._above)

    def nearest(self, candidate: str, count: int) -> Sequence[Neighbor]:
        """The most similar standing texts by ROUGE-L F1."""
        return self._pool.nearest(self._tokens(candidate), count)

    def mean(self, candidate: str) -> float:
        """Mean ROUGE-L F1 to the standing texts."""
        return self._pool.mean(self._tokens(candidate))

    def add(self, accepted: str) -> int:
        """Let a text stand."""
        self._pool.add(self._tokens(accepted))
        return len(self._pool) - 1
