"""Is the store sound? Digests, shapes and the conservation law, from the files as they lie there now."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from schemas.errors import CorruptStore, InvariantViolation, NewerStore
from schemas.lineage import DatasetRef, Manifest, Part
from storage import manifests, tags
from storage.commit import facts
from storage.files.fs import Remote
from storage.files.objects import Disk, is_digest
from storage.layout import columns_of, manifest_path

_CHUNK_ROWS = 65_536


class Finding(BaseModel):
    """One thing that is wrong, and what to do about it."""

    model_config = ConfigDict(frozen=True)

    place: str
    problem: str
    way_out: str


@dataclass
class _Seen:
    """What one verification already looked at: an object that many versions share is hashed once."""

    objects: dict[str, str | None] = field(default_factory=dict[str, str | None])  # digest → problem
    versions: dict[DatasetRef, Manifest | None] = field(default_factory=dict[DatasetRef, Manifest | None])


def verify(disk: Disk, ref: DatasetRef | None, *, deep: bool, laws: bool = True) -> list[Finding]:
    """Everything wrong with one version, or with all versions and tags; empty if sound.

    Shallow: every object is there with its length and rows, manifests match their seals, rows are conserved. ``deep``
    also reads every byte: digests of objects and every column decoded. Without ``laws`` no row is read: whether rows are
    conserved is left open.
    """
    seen = _Seen()
    disk = disk.glance()
    if ref is not None:
        return list(_step(disk, ref, seen, deep=deep, laws=laws))
    found = [finding for each in manifests.refs(disk) for finding in _step(disk, each, seen, deep=deep, laws=laws)]
    return found + list(_tags(disk))


def part_problem(disk: Disk, name: str, part: Part, *, deep: bool) -> str | None:
    """What is wrong with one object of a part, or None: there with its length, rows and columns; ``deep``: every byte."""
    if not is_digest(part.sha256):
        return f"{part.sha256[:80]!a} is no digest"
    return _object(disk, name, part, _Seen(), deep=deep)


def _step(disk: Disk, ref: DatasetRef, seen: _Seen, *, deep: bool, laws: bool) -> Iterator[Finding]:
    path = manifest_path(disk.root, ref)
    again = f"remove {disk.shown(path)} and run its recipe again"
    try:
        data = disk.fs.read(path)
        manifest = manifests.parse(data, ref, disk.shown(path))
    except FileNotFoundError:
        yield Finding(place=str(ref), problem="no such version", way_out="`provender ls` lists every version")
        return
    except (CorruptStore, NewerStore) as error:
        yield Finding(place=str(ref), problem=str(error), way_out=again)
        return
    yield from _manifest(disk, manifest, json.loads(data), seen, again)
    damaged = False
    for name, parts in manifest.parts.items():
        for part in parts:
            if not is_digest(part.sha256):
                damaged = True
                yield Finding(place=f"{ref}: part {name}", problem=f"{part.sha256[:80]!a} is no digest", way_out=again)
                continue
            problem = _object(disk, name, part, seen, deep=deep)
            if problem:
                damaged = True
                place = f"{ref}: part {name}: {disk.shown(disk.object_path(part.sha256))}"
                yield Finding(place=place, problem=problem, way_out=f"restore it from a copy, or {again}")
    if laws and not damaged:
        yield from _law(disk, manifest, seen, again)


def _manifest(disk: Disk, manifest: Manifest, content: dict[str, Any], seen: _Seen, again: str) -> Iterator[Finding]:
    place = str(manifest.ref)
    if manifests.digest_of(manifest.parts) != manifest.digest:
        yield Finding(place=place, problem="the digest over its parts does not match its parts", way_out=again)
    seals: list[str] = []
    for origin in manifests.origins(manifest):
        version = _version(disk, origin, seen)
        if version is None:
            yield Finding(
                place=place,
                problem=f"{origin}, which it was made from, is gone or damaged",
                way_out=f"restore the store from a copy, or {again}",
            )
            return
        seals.append(version.seal)
    if manifests.seal_of(content, seals) != manifest.seal:
        problem = "the manifest, or that of a version it was made from, was changed after its commit"
        yield Finding(place=place, problem=problem, way_out=f"restore it from a copy, or {again}")


def _version(disk: Disk, ref: DatasetRef, seen: _Seen) -> Manifest | None:
    if ref not in seen.versions:
        try:
            seen.versions[ref] = manifests.load(disk, ref)
        except (CorruptStore, NewerStore):
            seen.versions[ref] = None  # a finding of its own, at its own step
    return seen.versions[ref]


def _object(disk: Disk, name: str, part: Part, seen: _Seen, *, deep: bool) -> str | None:
    if part.sha256 not in seen.objects:
        seen.objects[part.sha256] = _bytes_problem(disk, part, deep=deep)
    return seen.objects[part.sha256] or _shape_problem(disk, name, part, deep=deep)


def _bytes_problem(disk: Disk, part: Part, *, deep: bool) -> str | None:
    path = disk.object_path(part.sha256)
    try:
        size = disk.fs.size(path)
    except FileNotFoundError:
        return "the object is gone"
    if size != part.size_bytes:
        return f"the object has {size} bytes, the manifest says {part.size_bytes}"
    if not deep:
        return None
    if isinstance(disk.fs, Remote):
        try:
            disk.fs.fetch(path)  # every byte, from where it really lies
        except CorruptStore as error:
            return str(error)
        return None
    source = disk.fs.source(path)
    if isinstance(source, str):
        try:
            with open(source, "rb") as stream:
                actual = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return f"the object cannot be read: {os.strerror(error.errno or 0)}"
    else:
        actual = hashlib.sha256(source.read()).hexdigest()
    return None if actual == part.sha256 else f"the object's bytes have the digest {actual}, not that of its name"


def _shape_problem(disk: Disk, name: str, part: Part, *, deep: bool) -> str | None:
    """Wrong columns, wrong number of rows, or a column that does not decode."""
    import pyarrow as pa  # here: every verb imports this file, and these take a tenth of a second
    import pyarrow.parquet as pq

    source = disk.fs.source(disk.object_path(part.sha256))
    try:
        schema = pl.read_parquet_schema(source)
        with pq.ParquetFile(disk.fs.source(disk.object_path(part.sha256))) as file:
            rows = file.metadata.num_rows
            if deep:
                rows = sum(batch.num_rows for batch in file.iter_batches(_CHUNK_ROWS))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
        return f"the object is no Parquet that can be read ({str(error).partition(chr(10))[0][:200]})"
    if rows != part.rows:
        return f"the object has {rows} rows, the manifest says {part.rows}"
    columns = columns_of(name)
    if columns is not None and list(schema.items())[: len(columns)] != list(columns.items()):
        return f"the object has the columns {', '.join(schema)}, expected {', '.join(columns)}"
    return None


def _law(disk: Disk, manifest: Manifest, seen: _Seen, again: str) -> Iterator[Finding]:
    from storage.invariants import derive

    place = str(manifest.ref)
    try:
        derived = derive(facts(disk, manifest, lambda ref: _version(disk, ref, seen)))
    except (InvariantViolation, CorruptStore) as error:
        yield Finding(place=place, problem=str(error), way_out=again)
        return
    for what, says, is_so in (
        ("counts", manifest.counts, derived.counts),
        ("reasons", _nonzero(manifest.reasons), derived.reasons),
    ):
        if says != is_so:
            yield Finding(place=place, problem=f"the manifest says {what} {says}, the parts say {is_so}", way_out=again)


def _nonzero(reasons: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in reasons.items() if count}


def _tags(disk: Disk) -> Iterator[Finding]:
    for name in sorted(tags.names(disk)):
        try:
            history = tags.history(disk, name)
        except CorruptStore as error:
            yield Finding(place=f"tag {name}", problem=str(error), way_out="remove that file and tag again")
            continue
        if [version.number for version in history] != list(range(1, len(history) + 1)):
            gap = next(i for i, version in enumerate(history, 1) if version.number != i)
            yield Finding(
                place=f"tag {name}", problem=f"version v{gap} is gone from its log", way_out="restore it from a copy"
            )
        for version in history:
            if not disk.fs.exists(manifest_path(disk.root, version.ref)):
                yield Finding(
                    place=f"tag {name}@v{version.number}",
                    problem=f"{version.ref} is gone",
                    way_out="run its recipe again, or restore the store from a copy",
                )
