"""Whole columns of a version as arrays: where its members live, their sources and licences, every score they were given.

Members point at (home, row), so a figure that any step gave an example is laid out once per home and gathered in the
order of any version: one pass over numbers, no join, no ids. Arrays are remembered and must not be written to.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.errors import StoreError, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.layout import EDIT
from storage.questions.lasting import lasting
from storage.questions.remembered import arrays
from storage.questions.views import View
from storage.questions.words import method_tag
from storage.seek import Reader, legible, role_part

T = TypeVar("T")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Places:
    """Where examples live: ``home`` numbers into ``homes``, ``row`` in that home's examples part."""

    homes: tuple[DatasetRef, ...]
    home: Array  # uint16
    row: Array  # uint32

    def __len__(self) -> int:
        return len(self.row)

    def at(self, chosen: Array) -> "Places":
        """Some of them, in the order asked."""
        return Places(self.homes, self.home[chosen], self.row[chosen])

    def gather(self, table: Mapping[DatasetRef, Array], missing: Any) -> Array:
        """One value each out of a table by home and row; ``missing`` where the table has no such home."""
        kinds = {array.dtype for array in table.values()} or {np.dtype(type(missing))}
        found = np.full(len(self), missing, dtype=next(iter(kinds)))
        for number, ref in enumerate(self.homes):
            if ref in table:
                mine = self.home == number
                found[mine] = table[ref][self.row[mine]]
        return found


class Column(View):
    """A score that a step gave the examples of its input. ``key`` is its name in addresses and on the command line."""

    key: str  # "clear", "ifd.loss"; with the step's first digits where two steps would share it
    stage: str
    method: str
    ref: str
    part: str
    name: str
    role: str
    threshold: float | None = None
    direction: str = "none"


def places(reader: Reader, ref: DatasetRef, *, keep: bool = True) -> Places:
    """The members of a version in order; a repeat is there again. ``keep`` False does not fill the memory with them."""
    manifest = reader.manifest(ref)

    def work() -> tuple[Array, Array]:
        frame = reader.store.positions(ref)
        return frame["home"].to_numpy(), frame["row"].to_numpy()

    parts = manifest.parts.get("members", ())  # versions that hold the same members share them
    own = tuple(part.sha256 for part in parts) or (manifest.commit_id,)
    key = (str(reader.store.root), "places", *own)
    outliving = lambda: lasting(reader, (manifest,), key[1:], work)  # noqa: E731
    home, row = arrays.of(key, outliving) if keep else arrays.get(key) or outliving()
    return Places(tuple(manifest.homes) or (ref,), home, row)


def _kept(reader: Reader, manifest: Manifest, work: Callable[[], T], *what: str) -> T:
    """What was worked out of a version, once per process, or by an earlier one."""
    key = (str(reader.store.root), manifest.commit_id, *what)
    return arrays.of(key, lambda: lasting(reader, (manifest,), key[1:], work))


def examples_of(manifest: Manifest) -> int:
    """Rows of a version's own examples part."""
    return sum(part.rows for part in manifest.parts.get("examples", ()))


# ---- what an example brings with it


def facet(reader: Reader, where: Places, name: str) -> tuple[list[str], Array]:
    """``source`` or ``license`` of each place as a number into a list of names; a null licence is ``unknown``."""
    names: list[str] = []
    number: dict[str, int] = {}
    table: dict[DatasetRef, Array] = {}
    for ref in where.homes:
        own, codes = _facet_of(reader, ref, name)
        for one in own:
            if one not in number:
                number[one] = len(names)
                names.append(one)
        table[ref] = np.array([number[one] for one in own] or [0], dtype=np.uint32)[codes]
    return names, where.gather(table, np.uint32(0))


def _facet_of(reader: Reader, home: DatasetRef, name: str) -> tuple[list[str], Array]:
    def work() -> tuple[list[str], Array]:
        texts = reader.scan(home, "examples").select(pl.col(name).fill_null("unknown")).collect()[name]
        codes = texts.cast(pl.Categorical).to_physical().to_numpy()
        if not len(codes):
            return [], codes
        first = np.zeros(int(codes.max()) + 1, dtype=np.int64)  # categories are shared by the process: only ours count
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        used = np.flatnonzero(np.bincount(codes))
        back = np.zeros(len(first), dtype=np.uint32)
        back[used] = np.arange(len(used), dtype=np.uint32)
        return texts.gather(first[used].tolist()).to_list(), back[codes]

    return _kept(reader, reader.manifest(home), work, "facet", name)


def depths(reader: Reader, where: Places) -> Array:
    """Synthetic depth of each place."""

    def of(home: DatasetRef) -> Array:
        def work() -> Array:
            frame = reader.scan(home, "examples").select(pl.col("synthetic_depth").fill_null(0)).collect()
            return frame["synthetic_depth"].to_numpy()

        return _kept(reader, reader.manifest(home), work, "depth")

    return where.gather({ref: of(ref) for ref in where.homes}, np.uint8(0))


# ---- what steps said about it


def columns_of(reader: Reader, ref: DatasetRef) -> tuple[Column, ...]:
    """Every score that the members of a version were given on their way, in the order of the steps.

    A step whose parts cannot be read has none here; the version's page names the damage.
    """
    found: list[Column] = []
    for manifest in reader.store.upstream(ref):
        try:
            with legible(str(manifest.ref)):
                found += _columns(reader, manifest)
        except StoreError:
            continue
    taken: dict[str, int] = {}
    for column in found:
        taken[column.key] = taken.get(column.key, 0) + 1
    return tuple(
        column
        if taken[column.key] == 1
        else column.model_copy(update={"key": f"{column.key}-{column.ref.rpartition('@')[2][:6]}"})
        for column in found
    )


def _columns(reader: Reader, manifest: Manifest) -> list[Column]:
    judged = [role for role, _ in manifest.step.inputs if role_part(manifest, role)]
    found = [
        _column(manifest, f"verdicts/{role}", "score", role, role if len(judged) > 1 else "")
        for role in judged
        if _has_scores(reader, manifest, role)
    ]
    if "scores" in manifest.parts and manifest.ref.stage != "evaluate":
        schema = reader.scan(manifest.ref, "scores").collect_schema()
        numeric = [name for name, kind in schema.items() if kind.is_numeric()]
        if manifest.ref.stage == "losses":  # no ranking: a loss before and after, not one score
            numeric = ["after", "before", "change", "tokens"]
        found += [_column(manifest, "scores", name, "pool", "" if name == "score" else name) for name in numeric]
    return found


def _column(manifest: Manifest, part: str, name: str, role: str, more: str) -> Column:
    drawn = threshold_rules(manifest) if part != "scores" else []
    return Column(
        key=method_tag(manifest) + (f".{more}" if more else ""),
        stage=manifest.ref.stage,
        method=method_tag(manifest),
        ref=str(manifest.ref),
        part=part,
        name=name,
        role=role,
        threshold=drawn[0][1] if len(drawn) == 1 else None,
        direction=drawn[0][2] if len(drawn) == 1 else "none",
    )


def threshold_rules(manifest: Manifest) -> list[tuple[int, float, str]]:
    """The rules that cut a score: their number as verdicts name it (from 1), threshold and direction."""
    return [
        (number, float(rule.threshold), rule.direction)
        for number, rule in enumerate(manifest.rules, 1)
        if rule.threshold is not None and rule.direction != "none"
    ]


def _has_scores(reader: Reader, manifest: Manifest, role: str) -> bool:
    def work() -> bool:
        score = reader.scan(manifest.ref, f"verdicts/{role}").select("score")
        there = pl.col("score").is_not_null().any()
        return bool(score.head(1000).select(there).collect().item() or score.select(there).collect().item())

    return _kept(reader, manifest, work, "scored", role)


def column_named(columns: Sequence[Column], key: str) -> Column:
    """The column of that key; ``UsageError`` names the others."""
    for column in columns:
        if column.key == key:
            return column
    alike = [column for column in columns if column.key.rpartition("-")[0] == key]  # of several steps, the latest
    if alike:
        return alike[-1]
    known = ", ".join(column.key for column in columns) or "none"
    raise UsageError(f"there is no score {key[:80]!r} here; there are {known}")


def stored(reader: Reader, column: Column) -> Array:
    """The column as its step stored it: float32, NaN for no score, one value per member of the step's input."""
    table = reader.scan(DatasetRef.parse(column.ref), column.part).select(pl.col(column.name).cast(pl.Float32))
    return table.collect()[column.name].fill_null(float("nan")).to_numpy()


def scores_at(reader: Reader, column: Column, where: Places, within: DatasetRef) -> Array:
    """That score of each place, NaN where the step did not give one; an edited example has that of what it was.

    ``within`` is the version whose history tells what was edited into what.
    """
    return where.gather(by_home(reader, column, within), np.float32(np.nan))


def by_home(reader: Reader, column: Column, within: DatasetRef) -> dict[DatasetRef, Array]:
    """The column by home and row of the examples, carried on over edits."""
    manifest = reader.manifest(DatasetRef.parse(column.ref))
    goal = reader.manifest(within)

    def work() -> dict[DatasetRef, Array]:
        of = dict(manifest.step.inputs)[column.role]
        where = places(reader, of, keep=False)
        table = laid_out(reader, where, stored(reader, column), np.float32(np.nan))
        carry(reader, table, manifest.ref, within, np.float32(np.nan))
        return table

    return _kept(reader, manifest, work, "by home", column.part, column.name, goal.commit_id)


def laid_out(reader: Reader, where: Places, values: Array, missing: Any) -> dict[DatasetRef, Array]:
    """Values at places as a table by home and row; ``missing`` elsewhere."""
    table: dict[DatasetRef, Array] = {}
    for number, ref in enumerate(where.homes):
        mine = where.home == number
        if mine.any():
            array = np.full(examples_of(reader.manifest(ref)), missing, dtype=values.dtype)
            array[where.row[mine]] = values[mine]
            table[ref] = array
    return table


def carry(reader: Reader, table: dict[DatasetRef, Array], after: DatasetRef, within: DatasetRef, missing: Any) -> None:
    """Carries values in a table by home and row on to what examples were edited into, ``after`` one step up to another."""
    for step in reader.store.upstream(within):
        if step.ref == after or not any(i.edited for i in step.counts.inputs):
            continue
        for role, origin in step.step.inputs:
            if role_part(step, role) is None or not table:
                continue
            at, became = edits_of(reader, step, role)
            old = places(reader, origin).at(at).gather(table, missing)
            told = ~np.isnan(old) if old.dtype.kind == "f" else old != missing
            if told.any():
                kind = next(iter(table.values())).dtype
                array = table.setdefault(step.ref, np.full(examples_of(step), missing, dtype=kind))
                array[became[told]] = old[told]


def edits_of(reader: Reader, step: Manifest, role: str) -> tuple[Array, Array]:
    """Positions in the input that a step edited, and the rows of its own examples that they became."""

    def work() -> tuple[Array, Array]:
        frame = (
            reader.scan(step.ref, f"verdicts/{role}")
            .select("fate", "successor")
            .with_row_index("position")
            .filter((pl.col("fate") == EDIT) & pl.col("successor").is_not_null())
            .collect()
        )
        return frame["position"].to_numpy(), frame["successor"].to_numpy()

    return _kept(reader, step, work, "edits", role)


def verdict_arrays(reader: Reader, manifest: Manifest, role: str) -> tuple[Array, Array, Array]:
    """``fate`` (u8), ``rule`` (u16, from 1, 0 for none) and ``score`` (f32, NaN for none) of a judged input."""

    def work() -> tuple[Array, Array, Array]:
        frame = reader.scan(manifest.ref, f"verdicts/{role}").select("fate", "rule", "score").collect()
        score = frame["score"].cast(pl.Float32).fill_null(float("nan"))
        return frame["fate"].to_numpy(), frame["rule"].to_numpy(), score.to_numpy()

    return arrays.of((str(reader.store.root), manifest.commit_id, "verdicts", role), work)
