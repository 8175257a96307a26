"""A mixture of exactly three sources as points of a triangle: what was measured where, and which mixtures have a name."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import polars as pl

from schemas.lineage import Manifest
from storage.questions.views import View
from storage.seek import Reader

#: The table of proxy runs that a measuring method leaves.
_RUNS = "sidecar/runs"

#: Mixtures that a picture shows; designs have some hundreds.
_MOST = 1000

#: Shares that differ by less are one mixture.
_DIGITS = 6

Shares = tuple[float, float, float]


class Measured(View):
    """One mixture that proxy runs were trained on."""

    shares: Shares  # of the sources, each 0 to 1, sum 1
    loss: float | None  # nats, the mean over seeds; None: no run of it ended with a finite loss
    runs: int  # with a finite loss
    failed: int  # without
    examples: int | None  # that a run learned from


class Mark(View):
    """A mixture that has a name."""

    name: str
    shares: Shares


class Simplex(View):
    """Three sources, the mixtures of them that were measured, and the named ones."""

    ref: str
    method: str
    sources: tuple[str, str, str]  # top, lower left and lower right corner
    measured: tuple[Measured, ...]
    marks: tuple[Mark, ...]  # proposed, uniform, proportional, and what was taken if it is not what was proposed
    more: int = 0  # measured mixtures that are left out

    @property
    def losses(self) -> tuple[float, ...]:
        """The losses that are known."""
        return tuple(one.loss for one in self.measured if one.loss is not None)


def simplex_of(reader: Reader, manifest: Manifest, method: str) -> Simplex | None:
    """The triangle of a mix step; None unless it measured mixtures of exactly three sources."""
    if manifest.ref.stage != "mix" or _RUNS not in manifest.parts:
        return None
    table = reader.scan(manifest.ref, _RUNS).collect()
    columns = [name for name in table.columns if name.startswith("w_")]
    if len(columns) != 3 or "measured" not in table.columns:
        return None
    found = measured_of(table, columns)
    first, second, third = (name.removeprefix("w_") for name in columns)
    sources = (first, second, third)
    return Simplex(
        ref=str(manifest.ref),
        method=method,
        sources=sources,
        measured=tuple(found[:_MOST]),
        marks=marks_of(manifest.summary, sources),
        more=max(0, len(found) - _MOST),
    )


def measured_of(table: pl.DataFrame, columns: Sequence[str]) -> list[Measured]:
    """The mixtures of a table of runs in the order in which they were first run, seeds of one mixture and size together."""
    held: dict[tuple[Any, ...], list[float | None]] = {}
    for row in table.iter_rows(named=True):
        shares = normalized([row[name] for name in columns])
        if shares is None:
            continue
        key = (*(round(share, _DIGITS) for share in shares), row.get("examples"))
        loss = row["measured"]
        held.setdefault(key, []).append(float(loss) if loss is not None and isfinite(loss) else None)
    made: list[Measured] = []
    for (a, b, c, examples), losses in held.items():
        known = [loss for loss in losses if loss is not None]
        made.append(
            Measured(
                shares=(a, b, c),
                loss=sum(known) / len(known) if known else None,
                runs=len(known),
                failed=len(losses) - len(known),
                examples=examples,
            )
        )
    return made


def marks_of(summary: Mapping[str, Any], sources: Sequence[str]) -> tuple[Mark, ...]:
    """The named mixtures of a mix step, as far as its summary knows them.

    ``proposed`` is what the method asked for, ``taken`` what repetition caps left of it where that differs by more than
    half a percent of the set, ``proportional`` the shares of the examples that there were to learn from.
    """
    notes = summary.get("notes")
    notes = notes if isinstance(notes, Mapping) else {}
    proposed, taken = _of(notes.get("asked"), sources), _of(summary.get("weights"), sources)
    third = 1 / 3
    named: list[tuple[str, Shares | None]] = [
        ("proposed", proposed or taken),
        ("uniform", (third, third, third)),
        ("proportional", _of(notes.get("learned_from"), sources)),
    ]
    if proposed and taken and max(abs(a - b) for a, b in zip(proposed, taken, strict=True)) > 0.005:
        named.append(("taken", taken))
    return tuple(Mark(name=name, shares=shares) for name, shares in named if shares is not None)


def normalized(values: Sequence[Any]) -> Shares | None:
    """Three amounts as shares that sum to 1; None where one is no finite number, is negative, or all are 0."""
    if not all(isinstance(value, int | float) and isfinite(value) and value >= 0 for value in values):
        return None
    whole = sum(values)
    if not whole:
        return None
    a, b, c = (float(value) / whole for value in values)
    return a, b, c


def _of(amounts: Any, sources: Sequence[str]) -> Shares | None:
    return normalized([amounts.get(name, 0) for name in sources]) if isinstance(amounts, Mapping) else None
