"""Tags: movable names of versions, each a create-only log of which the newest wins; ``support-bot@v3`` never moves."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.errors import BadName, CorruptStore, MissingDataset
from schemas.lineage import DatasetRef, TagVersion, checked_name
from storage.commit import now
from storage.files.objects import Disk
from storage.layout import manifest_path, tag_entry, tag_folder


def append(
    disk: Disk, name: str, ref: DatasetRef, *, note: str, run_id: str | None, recipe: Mapping[str, Any] | None
) -> TagVersion:
    """Moves the tag to a committed version; if its newest entry is that version already, returns that entry.

    Two processes that tag at once get two consecutive numbers. Raises ``BadName`` and ``MissingDataset``.
    """
    folder = tag_folder(disk.root, checked_name(name, "tag"))
    target = manifest_path(disk.root, ref)
    try:
        disk.fs.touch(target)  # holds gc off until the entry is there
    except FileNotFoundError:
        problem = f"{ref} cannot be tagged {name}: the store has no such version"
        raise MissingDataset(f"{problem}; `provender ls` lists them") from None
    disk.rejoin(target)
    while True:
        numbers = _numbers(disk, folder)
        if numbers:
            newest = _entry(disk, folder, name, numbers[-1])
            if newest.ref == ref:
                disk.rejoin(folder / tag_entry(newest.number))
                return newest
        version = TagVersion(
            name=name,
            number=(numbers[-1] if numbers else 0) + 1,
            ref=ref,
            created_at=now(),
            run_id=run_id,
            note=note,
            recipe=recipe,
        )
        data = (
            json.dumps(version.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
        )  # a recipe's order means something
        if disk.publish(data.encode(), folder / tag_entry(version.number)):
            return version


def history(disk: Disk, name: str) -> list[TagVersion]:
    """Every version of a tag, oldest first. Raises ``BadName``, ``MissingDataset`` and ``CorruptStore``."""
    folder = tag_folder(disk.root, checked_name(name, "tag"))
    numbers = _numbers(disk, folder)
    if not numbers:
        known = ", ".join(sorted(names(disk))) or "none yet"
        raise MissingDataset(f"store {disk.place} has no tag {name!r}; tags: {known}; `provender ls` lists versions")
    return [_entry(disk, folder, name, number) for number in numbers]


def newest(disk: Disk, name: str) -> TagVersion:
    """The tag's newest version."""
    return history(disk, name)[-1]


def names(disk: Disk) -> Iterator[str]:
    """Every tag that has at least one version."""
    yield from _walk(disk, disk.root / "tags", "")


def _walk(disk: Disk, folder: Path, prefix: str) -> Iterator[str]:
    entries = disk.fs.listdir(folder)
    if prefix and any(_number(entry) is not None for entry in entries):
        yield prefix
    for entry in entries:
        if entry[:1].isalnum():
            name = f"{prefix}/{entry}" if prefix else entry
            try:
                checked_name(name, "tag")
            except BadName:
                continue  # not a folder of ours
            yield from _walk(disk, folder / entry, name)


def _numbers(disk: Disk, folder: Path) -> list[int]:
    found = (_number(entry) for entry in disk.fs.listdir(folder))
    return sorted(number for number in found if number is not None)


def _number(entry: str) -> int | None:
    digits = entry.removeprefix("@").removesuffix(".json")
    return int(digits) if digits.isdecimal() and digits.isascii() and tag_entry(int(digits)) == entry else None


def _entry(disk: Disk, folder: Path, name: str, number: int) -> TagVersion:
    path = folder / tag_entry(number)
    shown = disk.shown(path)
    try:
        version = TagVersion.model_validate(json.loads(disk.fs.read(path)))
    except (FileNotFoundError, ValueError, ValidationError, RecursionError) as error:
        raise CorruptStore(f"{shown} is no tag entry; remove that file and tag again with `provender run`") from error
    if version.name != name or version.number != number:
        raise CorruptStore(f"{shown} says {version.name}@v{version.number}; remove that file and tag again")
    return version
