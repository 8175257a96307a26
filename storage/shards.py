"""Receipts of finished shards: create-only, first durable result wins, so a killed step resumes at the shard."""

import json
from collections.abc import Mapping
from typing import Any

from schemas.errors import CorruptStore
from schemas.lineage import DatasetRef, Part
from storage.files.objects import Disk
from storage.layout import shard_path


def put(disk: Disk, step_ref: DatasetRef, shard: int, receipt: Part | Mapping[str, Any]) -> dict[str, Any]:
    """Records a shard's result and returns the one that counts: this one, or the first durable one."""
    path = shard_path(disk.root, step_ref, shard)
    content = receipt.model_dump(mode="json") if isinstance(receipt, Part) else dict(receipt)
    data = (json.dumps(content, sort_keys=True, allow_nan=False) + "\n").encode()
    if disk.publish(data, path):
        return json.loads(data)
    return _read(disk, step_ref, shard)


def all_of(disk: Disk, step_ref: DatasetRef) -> dict[int, dict[str, Any]]:
    """Receipts of a step by shard number, durable from now on."""
    folder = shard_path(disk.root, step_ref, 0).parent
    found: dict[int, dict[str, Any]] = {}
    for entry in disk.fs.listdir(folder):
        digits = entry.removesuffix(".json")
        if digits.isdecimal() and digits.isascii() and shard_path(disk.root, step_ref, int(digits)).name == entry:
            found[int(digits)] = _read(disk, step_ref, int(digits))
    if found:
        disk.fs.sync_dir(folder)
    return found


def _read(disk: Disk, step_ref: DatasetRef, shard: int) -> dict[str, Any]:
    path = shard_path(disk.root, step_ref, shard)
    try:
        content = json.loads(disk.fs.read(path))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise CorruptStore(f"{disk.shown(path)} is no shard receipt; remove that file and run again") from error
    if not isinstance(content, dict):
        raise CorruptStore(f"{disk.shown(path)} is no shard receipt; remove that file and run again")
    return content
