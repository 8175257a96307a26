"""How one row is found without reading the others: slices of parts, positions in members, ids by their order.

Everything here reads row groups, not parts: Parquet's offsets give a row by its position, its statistics give an id or
a member by its value. A part in several objects reads as one table.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import polars as pl

from schemas.errors import CorruptStore
from schemas.lineage import DatasetRef, Manifest
from storage.gather import scan_parts
from storage.store import Store

T = TypeVar("T")

#: Rows nearer than this are read in one slice: a slice costs a row group anyway.
_NEAR = 2048


@contextmanager
def legible(place: str) -> Generator[None, None, None]:
    """Objects that are gone or are no Parquet become ``CorruptStore`` with the way out."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise CorruptStore(
            f"{place} cannot be read ({reason}); run `provender verify`, then the recipe again"
        ) from error


class Reader:
    """One question's view of a store: manifests and lazily scanned parts are looked up once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._manifests: dict[DatasetRef, Manifest] = {}
        self._scans: dict[tuple[DatasetRef, str], pl.LazyFrame] = {}
        self._tables: dict[tuple[DatasetRef, str], list[tuple[pl.LazyFrame, int, int]]] = {}
        self._found: dict[tuple[Any, ...], list[int]] = {}
        self._rows: dict[tuple[DatasetRef, str, int], dict[str, Any]] = {}
        self._numbers: dict[DatasetRef, dict[DatasetRef, int]] = {}
        self._once: dict[tuple[Any, ...], Any] = {}

    def manifest(self, ref: DatasetRef) -> Manifest:
        """The manifest of a version; ``MissingDataset`` if there is none."""
        if ref not in self._manifests:
            self._manifests[ref] = self.store.describe(ref)
        return self._manifests[ref]

    def know(self, manifests: Iterable[Manifest]) -> None:
        """Remember manifests that were read together."""
        self._manifests.update({manifest.ref: manifest for manifest in manifests})

    def scan(self, ref: DatasetRef, name: str) -> pl.LazyFrame:
        """A part as a lazy table."""
        if (ref, name) not in self._scans:
            self._scans[ref, name] = self.store.scan(ref, name)
        return self._scans[ref, name]

    def has(self, ref: DatasetRef, name: str) -> bool:
        """Whether the version holds rows under that name."""
        return bool(self.manifest(ref).parts.get(name))

    def row(self, ref: DatasetRef, name: str, position: int, columns: Sequence[str] = ()) -> dict[str, Any] | None:
        """One row of a part by its position, or None beyond its end."""
        if not self.has(ref, name):
            return None
        if not columns and (ref, name, position) in self._rows:
            return self._rows[ref, name, position]
        table = self.scan(ref, name).slice(position, 1)
        frame = (table.select(columns) if columns else table).collect()
        return frame.row(0, named=True) if frame.height else None

    def id_of(self, home: DatasetRef, row: int) -> bytes:
        """The id of an example by where it was created."""
        return self.once((home, "id", row), lambda: bytes(self.rows(home, "examples", [row], ("id",))["id"][0]))

    def read_rows(self, ref: DatasetRef, name: str, positions: Iterable[int]) -> None:
        """Reads together what ``row`` will be asked for at these positions."""
        wanted = sorted({at for at in positions if (ref, name, at) not in self._rows})
        for at, row in zip(wanted, self.rows(ref, name, wanted).iter_rows(named=True), strict=True):
            self._rows[ref, name, at] = row

    def rows(self, ref: DatasetRef, name: str, positions: Sequence[int], columns: Sequence[str] = ()) -> pl.DataFrame:
        """Rows of a part in the order asked; neighbours are read together, everything else is skipped."""
        if not positions:
            empty = self.scan(ref, name).head(0)
            return (empty.select(columns) if columns else empty).collect()
        pieces: list[pl.LazyFrame] = []
        starts: dict[int, int] = {}
        offset = 0
        for start, count in _slices(sorted(set(positions))):
            for table, first, rows in self.objects(ref, name):
                low, high = max(start, first), min(start + count, first + rows)
                if low >= high:
                    continue
                piece = table.slice(low - first, high - low)  # each on its own: in one frame, all would be read whole
                pieces.append(piece.select(columns) if columns else piece)
                starts.update({low + i: offset + i for i in range(high - low)})
                offset += high - low
        frames = pl.collect_all(pieces)
        missing = [position for position in positions if position not in starts]
        if missing:
            raise CorruptStore(f"{ref}: part {name} has no row {missing[0]}; run `provender verify {ref}`")
        together = pl.concat(frames)
        if together.height != offset:
            raise CorruptStore(
                f"{ref}: part {name} has fewer rows than its manifest says; run `provender verify {ref}`"
            )
        return together[[starts[position] for position in positions]]

    def objects(self, ref: DatasetRef, name: str) -> list[tuple[pl.LazyFrame, int, int]]:
        """The part's objects as tables of their own, each with the number of its first row and its rows."""
        if (ref, name) not in self._tables:
            found: list[tuple[pl.LazyFrame, int, int]] = []
            first = 0
            for part in self.manifest(ref).parts.get(name, ()):
                table = scan_parts(self.store.disk, [part], f"{ref}: part {name}")
                found.append((table, first, part.rows))
                first += part.rows
            self._tables[ref, name] = found
        return self._tables[ref, name]

    def rows_of(self, ref: DatasetRef) -> int:
        """How many examples a version has."""
        return self.manifest(ref).counts.rows_out

    def positions_of(self, ref: DatasetRef, home: DatasetRef, row: int) -> list[int]:
        """Where a version's members hold an example; several for repeats, none if it is not in it."""
        manifest = self.manifest(ref)
        parts = manifest.parts.get("members", ())
        if not parts:
            return [row] if home == ref and row < self.rows_of(ref) else []
        number = self._homes_of(manifest).get(home)
        if number is None:
            return []
        key = (tuple(part.sha256 for part in parts), number, row)
        if key not in self._found:
            found = (
                self.scan(ref, "members")
                .with_row_index("position")
                .filter((pl.col("row") == row) & (pl.col("home") == number))
                .select("position")
                .collect()
            )
            self._found[key] = found["position"].to_list()
        return self._found[key]

    def locate(self, ref: DatasetRef, places: Sequence[tuple[DatasetRef, int]]) -> None:
        """Reads in one pass what ``positions_of`` will be asked for these examples (home and row) of a version."""
        manifest = self.manifest(ref)
        parts = manifest.parts.get("members", ())
        shas, homes = tuple(part.sha256 for part in parts), self._homes_of(manifest)
        wanted: dict[tuple[Any, ...], list[int]] = {
            (shas, homes[home], row): [] for home, row in places if home in homes
        }
        wanted = {key: at for key, at in wanted.items() if key not in self._found}
        if not parts or not wanted:
            return
        found = (
            self.scan(ref, "members")
            .with_row_index("position")
            .filter(pl.col("row").is_in(sorted({row for _, _, row in wanted})))
            .select("position", "home", "row")
            .collect()
        )
        for position, home, row in found.iter_rows():
            if (shas, home, row) in wanted:
                wanted[shas, home, row].append(position)
        self._found.update(wanted)

    def _homes_of(self, manifest: Manifest) -> dict[DatasetRef, int]:
        """The number of each home of a version; refs are slow to compare one by one."""
        if manifest.ref not in self._numbers:
            self._numbers[manifest.ref] = dict(
                zip(reversed(manifest.homes), reversed(range(len(manifest.homes))), strict=True)
            )
        return self._numbers[manifest.ref]

    def once(self, key: tuple[Any, ...], work: Callable[[], T]) -> T:
        """What is asked for again within this one question."""
        if key not in self._once:
            self._once[key] = work()
        return self._once[key]

    def members(self, ref: DatasetRef, start: int, count: int) -> list[tuple[DatasetRef, int]]:
        """Home and row of a stretch of members."""
        manifest = self.manifest(ref)
        if not manifest.parts.get("members"):
            return [(ref, row) for row in range(start, min(start + count, self.rows_of(ref)))]
        frame = self.scan(ref, "members").slice(start, count).collect()
        return [(manifest.homes[home], row) for home, row in frame.select("home", "row").iter_rows()]

    def members_at(self, ref: DatasetRef, positions: Sequence[int]) -> list[tuple[DatasetRef, int]]:
        """Home and row of members by position, in the order asked."""
        manifest = self.manifest(ref)
        if not manifest.parts.get("members"):
            return [(ref, position) for position in positions]
        frame = self.rows(ref, "members", positions, ("home", "row"))
        return [(manifest.homes[home], row) for home, row in frame.iter_rows()]

    def examples(self, places: Sequence[tuple[DatasetRef, int]], columns: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Examples by home and row, in the order asked."""
        by_home: dict[DatasetRef, list[int]] = {}
        for home, row in places:
            by_home.setdefault(home, []).append(row)
        found: dict[tuple[DatasetRef, int], dict[str, Any]] = {}
        for home, wanted in by_home.items():
            frame = self.rows(home, "examples", wanted, columns)
            found.update({(home, row): example for row, example in zip(wanted, frame.to_dicts(), strict=True)})
        return [found[place] for place in places]

    def ids_between(self, ref: DatasetRef, name: str, low: bytes, high: bytes, limit: int = 6) -> pl.DataFrame:
        """Rows of ``examples`` or ``index`` whose id lies in [low, high], with their position in the part."""
        columns = ("id", "position") if name == "index" else ("id",)
        table = self.scan(ref, name).select(columns)
        if name != "index":
            table = table.with_row_index("position")
        return table.filter((pl.col("id") >= low) & (pl.col("id") <= high)).head(limit).collect()


def _slices(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted positions as few stretches (start, length): gaps below ``_NEAR`` are read over."""
    stretches: list[tuple[int, int]] = []
    start = last = positions[0]
    for position in positions[1:]:
        if position - last > _NEAR:
            stretches.append((start, last - start + 1))
            start = position
        last = position
    stretches.append((start, last - start + 1))
    return stretches


def role_part(manifest: Manifest, role: str) -> str | None:
    """The verdicts part of a consumed input, or None for a side input."""
    name = f"verdicts/{role}"
    return name if name in manifest.parts else None


def inputs_by_role(manifest: Manifest) -> Mapping[str, DatasetRef]:
    """The inputs of a step by role."""
    return dict(manifest.step.inputs)
