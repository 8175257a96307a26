"""The mixtures of a store: what each method weighed, what came out, the runs it learned from, what they predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from schemas.errors import StoreError
from schemas.lineage import Manifest
from storage.questions import figures
from storage.questions.simplex import Simplex, simplex_of
from storage.questions.training import training_of
from storage.questions.views import Damage, Metric, MixtureRow, View
from storage.questions.words import method_tag, method_words, setting, short
from storage.seek import Reader, legible
from storage.store import Store

#: Rows of a table that a page shows.
SHOWN = 200

#: Notes that are told first: what was found.
_FIRST = ("says", "measured", "predicted", "intervals", "repetition", "capped", "law", "best_run")


class Table(View):
    """A small table that a step left: rows of cells in the order of ``columns``."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: int = 0


class Point(View):
    """What a law predicted and what was measured."""

    name: str
    predicted: float
    measured: float


class Mixture(View):
    """One mix step."""

    ref: str
    method: str
    says: str
    made_at: str | None
    tags: tuple[str, ...]
    rows: int
    pools: tuple[MixtureRow, ...]
    notes: tuple[tuple[str, str], ...]  # plain facts of the fit, as name and text
    tables: tuple[Table, ...]  # proxy runs and whatever else the method left
    points: tuple[Point, ...]  # predicted and measured, where a table has both
    metrics: tuple[Metric, ...]  # what trainings on it measured
    simplex: Simplex | None = None  # proxy runs and named mixtures, for exactly three sources


class Mixtures(View):
    """Every mixture of a store, newest first."""

    mixtures: tuple[Mixture, ...]
    damage: tuple[Damage, ...] = ()


def mixtures(store: Store) -> Mixtures:
    """All mix steps with what they know; one that cannot be read is named and takes nothing else down."""
    reader = Reader(store)
    everything = list(store.versions())
    names: dict[str, list[str]] = {}
    for newest in store.tags():
        for tag in store.tag_history(newest.name):
            names.setdefault(str(tag.ref), []).append(f"{tag.name}@v{tag.number}")
    found: list[Mixture] = []
    damage: list[Damage] = []
    for manifest in reversed(everything):
        if manifest.ref.stage != "mix":
            continue
        try:
            with legible(str(manifest.ref)):
                found.append(_mixture(reader, manifest, names))
        except StoreError as error:
            damage.append(Damage(place=str(manifest.ref), problem=str(error)))
    return Mixtures(mixtures=tuple(found), damage=tuple(damage))


def _mixture(reader: Reader, manifest: Manifest, names: Mapping[str, Sequence[str]]) -> Mixture:
    below = reader.store.downstream(manifest.ref)
    noted: Any = manifest.summary.get("notes") or {}
    noted = noted if isinstance(noted, Mapping) else {"notes": noted}
    tables = [*_sidecars(reader, manifest), *_tables_of(noted)]
    made = manifest.run.get("started_at")
    return Mixture(
        ref=str(manifest.ref),
        method=method_tag(manifest),
        says=method_words(manifest),
        made_at=str(made) if made else None,
        tags=tuple(tag for m in below for tag in names.get(str(m.ref), ())),
        rows=manifest.counts.rows_out,
        pools=figures.mixture(reader, manifest),
        notes=tuple((name, _told(noted[name])) for name in _in_order(noted)),
        tables=tuple(tables),
        points=tuple(point for table in tables for point in points_of(table)),
        metrics=tuple(
            metric for m in below if m.ref.stage in ("finetune", "evaluate") for metric in training_of(m).metrics
        ),
        simplex=simplex_of(reader, manifest, method_tag(manifest)),
    )


def _sidecars(reader: Reader, manifest: Manifest) -> list[Table]:
    found: list[Table] = []
    for name, parts in manifest.parts.items():
        if not name.startswith("sidecar/"):
            continue
        frame = reader.scan(manifest.ref, name).head(SHOWN).collect()
        cells = [tuple(_cell(value) for value in row) for row in frame.iter_rows()]
        total = sum(part.rows for part in parts)
        found.append(
            Table(
                name=name.removeprefix("sidecar/"),
                columns=tuple(frame.columns),
                rows=tuple(cells),
                more=max(0, total - len(cells)),
            )
        )
    return found


def _tables_of(noted: Mapping[str, Any]) -> list[Table]:
    found: list[Table] = []
    for name, value in noted.items():
        if not _is_table(value):
            continue
        columns = tuple(dict.fromkeys(str(key) for row in value for key in row))
        rows = tuple(tuple(_cell(row.get(column)) for column in columns) for row in value[:SHOWN])
        found.append(Table(name=str(name), columns=columns, rows=rows, more=max(0, len(value) - SHOWN)))
    return found


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return short(value) if value == value and abs(value) != float("inf") else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, pl.Series):
        value = value.to_list()
    return setting(value)


def _in_order(noted: Mapping[str, Any]) -> list[str]:
    """The notes that say something and are no table: what was found first, how it was found after it."""
    names = [name for name, value in noted.items() if not _is_table(value) and value not in (None, "", [], {}, ())]
    return sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def _told(value: Any) -> str:
    """A note as text: ``code 0.35 to 0.6, chat 0.4 to 0.65`` for intervals, nested ones in brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_nested(item)}" for key, item in list(value.items())[:40])
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(setting(item) for item in value[:40])
    return setting(value)


def _nested(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_told(value)})"
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value):
        return f"{setting(value[0])} to {setting(value[1])}"
    return setting(value)


def points_of(table: Table) -> tuple[Point, ...]:
    """Pairs of a predicted and a measured figure: columns ``predicted``/``measured``, also with a common ending."""
    found: list[Point] = []
    for i, column in enumerate(table.columns):
        if not column.startswith("predicted"):
            continue
        other = "measured" + column.removeprefix("predicted")
        if other not in table.columns:
            continue
        j = table.columns.index(other)
        for number, row in enumerate(table.rows):
            if isinstance(row[i], int | float) and isinstance(row[j], int | float):
                name = next((cell for cell in row if isinstance(cell, str)), f"{table.name} {number + 1}")
                found.append(Point(name=name, predicted=float(row[i]), measured=float(row[j])))
    return tuple(found)
