"""From positions back to examples: reading parts and gathering rows by (home, row), without Python per row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import polars as pl

from schemas.errors import CorruptStore
from schemas.examples import EXAMPLES
from schemas.lineage import DatasetRef, Manifest, Part
from storage.files.objects import Disk, gone
from storage.layout import empty

if TYPE_CHECKING:
    import numpy.typing as npt

#: NumPy is imported where rows are put in order: who reads one row (`provender trace`) does without its 80 ms.
Array: TypeAlias = "npt.NDArray[Any]"


def scan(disk: Disk, manifest: Manifest, name: str) -> pl.LazyFrame:
    """A part of a version, all its objects in order; an empty frame if it has none. ``CorruptStore`` if one is gone."""
    parts = manifest.parts.get(name, ())
    return scan_parts(disk, parts, f"{manifest.ref}: part {name}") if parts else empty(name).lazy()


def scan_parts(disk: Disk, parts: Sequence[Part], place: str) -> pl.LazyFrame:
    """Parquet objects as one frame."""
    paths = [disk.object_path(part.sha256) for part in parts]
    for path in paths:
        if not disk.fs.exists(path):
            raise gone(disk.shown(path), place)
    sources = [disk.fs.source(path) for path in paths]
    return pl.scan_parquet(cast(Any, sources), glob=False, hive_partitioning=False)


def collect(frame: pl.LazyFrame, place: str) -> pl.DataFrame:
    """The frame in memory; what cannot be read is ``CorruptStore`` with its place."""
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise CorruptStore(f"{place} cannot be read ({reason}); `provender verify` says what is damaged") from error


def read(disk: Disk, manifest: Manifest, name: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A part, or some columns of it, in memory."""
    frame = scan(disk, manifest, name)
    return collect(frame if columns is None else frame.select(columns), f"{manifest.ref}: part {name}")


def rows_of(manifest: Manifest, name: str) -> int:
    """Rows of a part, from the manifest alone."""
    return sum(part.rows for part in manifest.parts.get(name, ()))


def positions(disk: Disk, manifest: Manifest) -> pl.DataFrame:
    """``home`` (u16) and ``row`` (u32) of each member in order; a repeat is the row again."""
    if "members" in manifest.parts:
        return read(disk, manifest, "members")
    own = rows_of(manifest, "examples")
    home = manifest.homes.index(manifest.ref) if manifest.ref in manifest.homes else 0
    return pl.select(
        pl.repeat(home, own, dtype=pl.UInt16).alias("home"), pl.int_range(own, dtype=pl.UInt32).alias("row")
    )


@dataclass(frozen=True)
class Gatherer:
    """Takes examples out of the homes of one version: all their columns, or the ones named, in that order."""

    disk: Disk
    homes: Sequence[DatasetRef]
    manifests: Mapping[DatasetRef, Manifest]
    columns: Sequence[str] = tuple(EXAMPLES)

    def take(self, members: pl.DataFrame) -> pl.DataFrame:
        """EXAMPLES for these positions, in their order, in one piece of memory."""
        import numpy as np

        found = list(self.pieces(members))
        if not found:
            return pl.DataFrame(schema={name: EXAMPLES[name] for name in self.columns})
        # polars gathers from one chunk some 30 times faster than from many
        together = pl.concat([piece for _, piece in found]).rechunk()
        order = np.concatenate([places for places, _ in found])
        if np.array_equal(order, np.arange(len(order))):
            return together
        back = np.empty(len(order), dtype=np.uint32)
        back[order] = np.arange(len(order), dtype=np.uint32)
        return together[pl.Series(back)]

    def pieces(self, members: pl.DataFrame) -> Iterator[tuple[Array, pl.DataFrame]]:
        """Each example once, by home and row: (places among ``members``, examples there), one object at a time.

        Only the row groups between the first and last wanted row of an object are read, and an object that is wanted
        whole is not copied.
        """
        import numpy as np

        home = members["home"].to_numpy()
        row = members["row"].to_numpy()
        for places, (ref, part, start) in self._objects(home, row):
            yield places, self._of_object(ref, part, row[places].astype(np.int64) - start)

    def scattered(self, members: pl.DataFrame, rows: int) -> bool:
        """Whether pieces of ``rows`` members each reach over so much that most of it would be read again and again."""
        reach = members.with_columns(piece=pl.int_range(pl.len()) // rows).group_by("piece", "home")
        span = reach.agg(span=pl.col("row").max().cast(pl.Int64) - pl.col("row").min() + 1)["span"].sum()
        held = sum(rows_of(self.manifests[ref], "examples") for ref in self.homes)
        return span > 4 * held

    def _objects(self, home: Array, row: Array) -> Iterator[tuple[Array, tuple[DatasetRef, Part, int]]]:
        """Places by home and object, rows ascending within each; and the object with the number of its first row."""
        import numpy as np

        for number in np.unique(home):
            if number >= len(self.homes):
                raise CorruptStore(f"home {number} of {len(self.homes)} does not exist; run `provender verify`")
            ref = self.homes[int(number)]
            at = np.flatnonzero(home == number)
            wanted = row[at]
            if bool((wanted[1:] < wanted[:-1]).any()):
                at = at[np.argsort(wanted, kind="stable")]
                wanted = row[at]
            held = rows_of(self.manifests[ref], "examples")
            if int(wanted[-1]) >= held:
                raise CorruptStore(f"row {wanted[-1]} of {ref} does not exist, it has {held}; run `provender verify`")
            start = 0
            for part in self.manifests[ref].parts["examples"]:
                low, high = np.searchsorted(wanted, [start, start + part.rows])
                if high > low:
                    yield at[low:high], (ref, part, start)
                start += part.rows

    def _of_object(self, ref: DatasetRef, part: Part, row: Array) -> pl.DataFrame:
        import numpy as np

        place = f"{ref}: part examples"
        low, high = int(row[0]), int(row[-1])
        lazy = scan_parts(self.disk, [part], place).select(*self.columns).slice(low, high - low + 1)
        frame = collect(lazy, place)
        if frame.height != high - low + 1:
            raise CorruptStore(f"{place}: an object has fewer rows than its manifest says; run `provender verify`")
        if len(row) == frame.height and np.array_equal(row, np.arange(low, high + 1)):
            return frame
        return frame.rechunk()[pl.Series((row - low).astype(np.uint32))]
