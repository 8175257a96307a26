"""Engines that only some settings of a method need: the class names them all, an instance those of its own fields."""

from collections.abc import Callable, Iterable
from typing import Any


def needed(every: Iterable[str], by: Callable[[Any], Iterable[str]]) -> Any:
    """A value for ``needs``: ``every`` on the class (documentation), ``by(method)`` on an instance (identity, check).

    An engine that a recipe's settings never ask is then neither required nor part of the step's identity.
    """
    return _Needs(frozenset(every), by)


class _Needs:
    def __init__(self, every: frozenset[str], by: Callable[[Any], Iterable[str]]) -> None:
        self.every = every
        self.by = by

    def __get__(self, method: Any, kind: type) -> frozenset[str]:
        return self.every if method is None else frozenset(self.by(method))
