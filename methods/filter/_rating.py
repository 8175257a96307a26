"""A judge's number: read from the first line of its reply, or not read at all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

_NUMBER = re.compile(r"\s*+(?:(?:score|rating)\s*+[:=]\s*+)?+(\d+(?:\.\d+)?)\s*+\.?+\s*+", re.IGNORECASE)


@dataclass(frozen=True)
class Rating:
    """The lowest mean over the aspects (None where one is missing), each aspect's mean, usable replies, call keys."""

    value: float | None
    by_aspect: Mapping[str, float | None]
    heard: int
    calls: Sequence[str]


def rating_of(reply: str) -> float | None:
    r"""The number from 0 to 5 that stands alone on the first line, with or without "Score:"; else None.

    >>> rating_of("4.5\nGood"), rating_of("Score: 4.5\nok"), rating_of("4/5\nx"), rating_of("Rating 4"), rating_of("11")
    (4.5, 4.5, None, None, None)
    """
    first = reply.strip().split("\n", 1)[0]
    found = _NUMBER.fullmatch(first)
    value = float(found[1]) if found else None
    return value if value is not None and value <= 5 else None


def cut_ratings(ratings: pl.Series) -> dict[str, int]:
    """How many ratings lie at each half step, none left out.

    >>> cut_ratings(pl.Series([4.5, 4.6, 5.0, None]))
    {'4.5': 2, '5': 1}
    """
    steps = (ratings.drop_nulls() * 2).round().cast(pl.Int64).alias("step").value_counts(sort=False).sort("step")
    return {f"{step / 2:g}": count for step, count in steps.iter_rows()}
