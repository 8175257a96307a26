"""The dataset store: immutable versions of datasets with the lineage inside each commit, in plain Parquet and JSON."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from schemas.errors import BadName, CorruptStore, MissingDataset, NewerStore, StoreUnwritable
from schemas.examples import EXAMPLES
from schemas.lineage import FORMAT, DatasetRef, Manifest, Part, Step, TagVersion
from storage import commit, gather, gc, manifests, shards, tags
from storage.batches import batches
from storage.draft import Draft
from storage.files.fs import FileSystem, Remote
from storage.files.object_store import disk_at
from storage.files.objects import Disk, probe
from storage.gc import GcPlan, GcReport
from storage.verify import Finding, verify

_PREFIX = re.compile(r"([a-z][a-z0-9-]{0,31})@([0-9a-f]{6,16})")
_SHORT = re.compile(r"[a-z][a-z0-9-]{0,31}@[0-9a-f]{1,5}")
_AT_VERSION = re.compile(r"(.+)@v([1-9][0-9]{0,7})")


class Store:
    """One folder or bucket, any number of processes and threads. Nothing here locks; versions never change.

    ``root`` is the folder; for a store on object storage it is what this machine keeps beside it.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.root = disk.root

    @property
    def disk(self) -> Disk:
        """Where the store lies."""
        return self._disk

    @staticmethod
    def open(root: str | Path, *, create: bool = True, fs: FileSystem | None = None) -> "Store":
        """The store in this folder or at ``s3://bucket/prefix``, made if it is absent and ``create`` is set.

        A sound folder is opened without a write; object storage is tried once a day whether it creates names only once.
        Raises ``MissingDataset`` (absent), ``NewerStore``, ``CorruptStore``, ``StoreUnwritable``, ``StoreUnreachable``.
        """
        disk = Disk(fs, Path(root).absolute(), set()) if fs else disk_at(root)
        how = _create_only(disk)
        if how is None:
            if not create:
                raise MissingDataset(f"{disk.place} is no store; `provender init` or `provender run` makes one")
            how = _create(disk)
        elif isinstance(disk.fs, Remote):
            disk.fs.check()
        return Store(replace(disk, create_only=how))

    def lookup(self, ref: DatasetRef) -> Manifest | None:
        """The version, durable and safe to build on, or None if that step never finished."""
        return commit.held(self.disk, ref)

    def describe(self, ref: DatasetRef) -> Manifest:
        """The version; ``MissingDataset`` if that step never finished."""
        manifest = manifests.load(self.disk, ref)
        if manifest is None:
            known = ", ".join(sorted(tags.names(self.disk))) or "none yet"
            raise MissingDataset(
                f"store {self.disk.place} has no dataset {ref}; tags: {known}; `provender ls` lists versions, "
                "`provender verify` what is damaged"
            )
        return manifest

    def resolve(self, text: str) -> DatasetRef:
        """The ref that a person means: ``tag``, ``tag@v3``, ``stage@fingerprint`` or 6 and more of its first digits."""
        if match := _AT_VERSION.fullmatch(text):
            history = tags.history(self.disk, match[1])
            for version in history:
                if version.number == int(match[2]):
                    return version.ref
            raise MissingDataset(f"tag {match[1]} has no version v{match[2]}; its newest is v{history[-1].number}")
        if match := _PREFIX.fullmatch(text):
            found = [ref for ref in manifests.refs(self.disk) if str(ref).startswith(text)]
            if len(found) > 1:
                raise BadName(f"{text} is ambiguous: {', '.join(str(ref) for ref in found)}; give more digits")
            if not found:
                raise MissingDataset(
                    f"store {self.disk.place} has no dataset {text}; `provender ls` lists every version"
                )
            return found[0]
        if _SHORT.fullmatch(text):
            raise BadName(
                f"{text} has too few digits: give at least 6 of its ref; `provender ls --all` lists every version"
            )
        return tags.newest(self.disk, text).ref

    def versions(self) -> Iterator[Manifest]:
        """Every version, oldest first; a file that is no manifest is logged and left to ``verify``."""
        yield from manifests.sound(self.disk)

    def upstream(self, ref: DatasetRef) -> list[Manifest]:
        """A version and all it came from, sources first."""
        return manifests.topological([ref], self.describe)

    def downstream(self, ref: DatasetRef) -> list[Manifest]:
        """A version and all that was made from it, itself first."""
        start = self.describe(ref)
        return manifests.downstream(start, manifests.sound(self.disk))

    def positions(self, ref: DatasetRef) -> pl.DataFrame:
        """``home`` (u16, into the manifest's homes) and ``row`` (u32) of each member in order."""
        return gather.positions(self.disk, self.describe(ref))

    def pool(self, ref: DatasetRef, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The version's examples in member order; a repeat is there again.

        EXAMPLES columns, or only those in ``columns``: the others are not read, so that a pool without its texts is small.
        """
        manifest = self.describe(ref)
        return self._gatherer(manifest, columns).take(gather.positions(self.disk, manifest))

    def batches(
        self,
        ref: DatasetRef,
        rows: int = 100_000,
        columns: Sequence[str] | None = None,
        members: pl.DataFrame | None = None,
    ) -> Iterator[pl.DataFrame]:
        """``pool`` in pieces of at most ``rows`` examples, in bounded memory; with ``members`` (``home``, ``row``) only
        those, in their order.
        """
        manifest = self.describe(ref)
        where = gather.positions(self.disk, manifest) if members is None else members
        yield from batches(self._gatherer(manifest, columns), where, rows)

    def take(self, ref: DatasetRef, members: pl.DataFrame, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """EXAMPLES at some positions (``home``, ``row``) of a version: rows of a page, parents of an example."""
        return self._gatherer(self.describe(ref), columns).take(members)

    def part(self, ref: DatasetRef, name: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A part, or some of its columns, in memory (names: ``storage/layout.py``); empty if the version has none."""
        return gather.read(self.disk, self.describe(ref), name, columns)

    def scan(self, ref: DatasetRef, name: str) -> pl.LazyFrame:
        """A part, read only as far as needed."""
        return gather.scan(self.disk, self.describe(ref), name)

    def paths(self, ref: DatasetRef, name: str) -> list[Path]:
        """The Parquet files of a part in order, for readers that are not ours (DuckDB, datasets)."""
        return [self.disk.local(part.sha256) for part in self.describe(ref).parts.get(name, ())]

    def draft(self, step: Step) -> Draft:
        """A new version in the making."""
        return Draft(step, self.disk)

    def commit(self, draft: Draft) -> Manifest:
        """Makes the draft a version, or joins the first durable result of the same step. See ``storage/commit.py``."""
        return commit.commit(self.disk, draft)

    def put_shard(self, step_ref: DatasetRef, shard: int, part: Part | Mapping[str, Any]) -> dict[str, Any]:
        """Records a finished shard; returns the receipt that counts, the first durable one."""
        return shards.put(self.disk, step_ref, shard, part)

    def shards(self, step_ref: DatasetRef) -> dict[int, dict[str, Any]]:
        """Receipts of a step's finished shards by number."""
        return shards.all_of(self.disk, step_ref)

    def tag(
        self,
        name: str,
        ref: DatasetRef,
        *,
        note: str = "",
        run_id: str | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> TagVersion:
        """Moves a tag to a version and returns ``name@vN``; a tag that is there already stays as it is."""
        return tags.append(self.disk, name, ref, note=note, run_id=run_id, recipe=recipe)

    def tags(self) -> list[TagVersion]:
        """The newest version of each tag, by name."""
        return [tags.newest(self.disk, name) for name in sorted(tags.names(self.disk))]

    def tag_history(self, name: str) -> list[TagVersion]:
        """Every version of a tag, oldest first."""
        return tags.history(self.disk, name)

    def verify(self, ref: DatasetRef | None = None, *, deep: bool = True) -> list[Finding]:
        """What is wrong with one version, or with every version and tag; empty if sound.

        Shallow looks at lengths, rows, seals and the conservation law; ``deep`` also at every byte.
        """
        return verify(self.disk, ref, deep=deep)

    def gc_plan(self, keep_days: float = 14, grace_hours: float = 24) -> GcPlan:
        """What could go, written down but not removed. See ``storage/gc.py``."""
        return gc.plan(self.disk, keep_days=keep_days, grace_hours=grace_hours)

    def gc_execute(self, plan: GcPlan | str) -> GcReport:
        """Removes what a plan (or the plan of that id) names, if still nothing needs it."""
        return gc.execute(self.disk, gc.load_plan(self.disk, plan) if isinstance(plan, str) else plan)

    def _gatherer(self, manifest: Manifest, columns: Sequence[str] | None) -> gather.Gatherer:
        homes = manifest.homes or (manifest.ref,)
        known = {ref: manifest if ref == manifest.ref else self.describe(ref) for ref in homes}
        return gather.Gatherer(self.disk, homes, known, tuple(EXAMPLES) if columns is None else tuple(columns))


def _create_only(disk: Disk) -> str | None:
    """How the store makes names once, from its FORMAT; None if there is no store."""
    path = disk.root / "FORMAT"
    try:
        data = disk.fs.read(path)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(data)
        number = content["format"]
        how = content.get("probe", {}).get("create_only", "link")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptStore(
            f"{disk.shown(path)} is damaged; restore it from a copy, or write {_FORMAT_ALONE} into it"
        ) from error
    if not isinstance(number, int) or number < 1:
        raise CorruptStore(f"{disk.shown(path)} names format {number!a:.40}; restore it from a copy")
    if number > FORMAT:
        raise NewerStore(f"{disk.place} has format {number}, this release reads up to {FORMAT}; upgrade provender")
    return str(how)


_OURS = {"objects", "steps", "tags", "shards", "tmp", "gc", "vectors", "runs", "reviews", "used", "leaving", "probe"}
_FORMAT_ALONE = json.dumps({"format": FORMAT})


def _create(disk: Disk) -> str:
    """An empty store; two processes that create it at once end up with the same one."""
    names = disk.fs.listdir(disk.root)
    if "FORMAT" in names and (made := _create_only(disk)):  # by another, since we looked
        return made
    foreign = [name for name in names if name not in _OURS and ".sqlite" not in name]
    if foreign:
        raise StoreUnwritable(
            f"{disk.place} is no store and not empty (it holds {foreign[0]!a}); name an empty or a new one"
        )
    missing = [path for path in (disk.root, *disk.root.parents) if not disk.fs.exists(path)]
    for path in reversed(missing):
        with suppress(FileExistsError):
            disk.fs.mkdir(path)
    for path in reversed(missing or [disk.root]):
        disk.fs.sync_dir(path.parent)
    disk.folder(disk.root / "tmp")
    how = probe(disk.fs, disk.root / "tmp")
    data = json.dumps({"format": FORMAT, "probe": {"create_only": how}}) + "\n"
    replace(disk, create_only=how).publish(data.encode(), disk.root / "FORMAT")
    found = _create_only(disk)
    if found is None:
        raise StoreUnwritable(f"{disk.place} vanished while it was being made; run again")
    return found
