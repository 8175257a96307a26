"""What an address asks for, checked: numbers, ranges, choices. Every mistake is a ``UsageError`` with the way out."""

import math
from collections.abc import Mapping, Sequence

from starlette.datastructures import QueryParams

from schemas.errors import UsageError

#: Characters of a text that an address may carry.
MOST_TEXT = 2000


def twin(named: str) -> tuple[str, bool]:
    """The name asked for, and whether its ``.json`` twin is meant."""
    return (named.removesuffix(".json"), True) if named.endswith(".json") else (named, False)


def text(asked: QueryParams, name: str, most: int = MOST_TEXT) -> str | None:
    """A parameter, or None if it is absent or empty."""
    return (asked.get(name) or "")[:most] or None


def one_of(asked: QueryParams, name: str, choices: Sequence[str]) -> str:
    """A parameter that must be one of some words; the first is meant if it is absent."""
    given = asked.get(name) or choices[0]
    if given not in choices:
        raise UsageError(f"{name} is one of {', '.join(choices)}, not {given[:40]!r}")
    return given


def count(asked: QueryParams, name: str, otherwise: int) -> int:
    """A number of rows, from 0."""
    given = asked.get(name)
    if not given:
        return otherwise
    if not given.isascii() or not given.isdigit() or len(given) > 12:
        raise UsageError(f"{given[:40]!r} is not a number of rows")
    return int(given)


def figure(given: str, what: str) -> float:
    """A finite number."""
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or len(given) > 40:
        raise UsageError(f"{what} {given[:40]!r} is not a number")
    return value


def ranges(asked: QueryParams) -> dict[str, tuple[float | None, float | None]]:
    """``min.<score>=0.2`` and ``max.<score>=0.7`` as ranges by score."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, given in asked.multi_items():
        side, dot, key = name.partition(".")
        if not dot or side not in ("min", "max") or not given:
            continue
        low, high = found.get(key, (None, None))
        value = figure(given, name)
        found[key] = (value, high) if side == "min" else (low, value)
    score, low, high = asked.get("score"), asked.get("low"), asked.get("high")  # one range, as the form sends it
    if score and (low or high):
        found[score] = (figure(low, "low") if low else None, figure(high, "high") if high else None)
    return found


def moves(asked: QueryParams) -> dict[str, float]:
    """``t.<threshold>=0.3`` as the thresholds to move."""
    return {name[2:]: figure(given, name) for name, given in asked.multi_items() if name.startswith("t.") and given}


def range_params(where: Mapping[str, tuple[float | None, float | None]]) -> dict[str, float]:
    """Ranges as parameters of an address."""
    told: dict[str, float] = {}
    for key, (low, high) in where.items():
        if low is not None:
            told[f"min.{key}"] = low
        if high is not None:
            told[f"max.{key}"] = high
    return told
