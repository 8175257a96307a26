"""A version in the making: parts are written as they come, durable at once; only a commit makes them a version."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from schemas.lineage import DatasetRef, Manifest, Part, Rule, Step
from storage.files.objects import Disk, gone
from storage.layout import shaped

ROW_GROUP = 65_536  # large enough that zstd has something to do
TEXT_ROW_GROUP = 8_192  # of parts with texts: one row costs its whole group (4 ms instead of 20), for 8 % more bytes
_TEXTS = frozenset(("messages", "request", "text"))


class Draft:
    """What a step made so far. Nothing of it is seen by anyone before it is committed.

    ``homes`` are the versions whose examples the members point into, in the order of the members' ``home`` numbers; it
    must hold ``step.output`` when the step creates examples. ``rules`` are what the verdicts' rule numbers mean, counted
    from 1.
    """

    def __init__(self, step: Step, disk: Disk) -> None:
        self.step = step
        self.homes: list[DatasetRef] = []
        self.rules: Sequence[Rule] = ()
        self.summary: dict[str, Any] = {}
        self.run: dict[str, Any] = {}
        self.nondeterministic = False
        self.parts: dict[str, list[Part]] = {}
        self._disk = disk

    def put(self, name: str, frame: pl.DataFrame) -> None:
        """Writes rows of a part as one Parquet object, durable on return; row numbers run on over several puts.

        Raises ``InvariantViolation`` for an unknown part or a wrong column, ``StoreUnwritable`` if the disk refuses.
        """
        frame = shaped(name, frame)
        parts = self.parts.setdefault(name, [])
        if frame.height or not parts:
            parts.append(write_parquet(self._disk, frame))

    def reuse(self, name: str, parts: Sequence[Part]) -> None:
        """Objects that a committed version or a shard's receipt already names, without another copy.

        Marks them as in use, so that ``gc`` leaves them; raises ``CorruptStore`` if one is gone.
        """
        for part in parts:
            in_use(self._disk, part, f"{self.step.output}: part {name}")
        self.parts.setdefault(name, []).extend(parts)

    def keep_members(self, manifest: Manifest) -> None:
        """The members of a committed version, unchanged and in order: for steps that only rank or publish it."""
        self.homes = list(manifest.homes)
        if "members" in manifest.parts:
            self.reuse("members", manifest.parts["members"])
            return
        own = sum(part.rows for part in manifest.parts.get("examples", ()))
        if manifest.ref not in self.homes:
            self.homes.append(manifest.ref)
        home = self.homes.index(manifest.ref)
        self.put("members", pl.select(home=pl.repeat(home, own, dtype=pl.UInt16), row=pl.int_range(own)))


def write_parquet(disk: Disk, frame: pl.DataFrame) -> Part:
    """One durable Parquet object."""
    rows = TEXT_ROW_GROUP if _TEXTS.intersection(frame.columns) else ROW_GROUP
    return disk.put(
        lambda sink: frame.write_parquet(
            sink, compression="zstd", compression_level=1, statistics=True, row_group_size=rows
        ),
        frame.height,
    )


def in_use(disk: Disk, part: Part, place: str) -> None:
    """Refreshes an object's age, which holds ``gc`` off; ``CorruptStore`` if it is not there."""
    path = disk.object_path(part.sha256)
    try:
        disk.fs.touch(path)
    except FileNotFoundError:
        raise gone(disk.shown(path), place) from None
