"""Making benchmark packs of one's own: from a file or the hub to a Parquet file with its list entry, versioned."""

import hashlib
import io
import os
import secrets
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import polars as pl
import yaml

from schemas.errors import BadName, StoreUnwritable
from schemas.lineage import checked_name
from storage.packs.hub import hub_rows
from storage.packs.shelf import PackInfo, items_of, load_pack, pack_folder, packs, rows_of_file


def build(
    source: str,
    to: Path,
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    title: str = "",
    license_: str = "unknown",
    released: date | None = None,
) -> tuple[str, PackInfo]:
    """Write ``<name>.parquet`` and ``<name>.yaml`` into a folder; the pack's name and its list entry.

    ``source`` is a ``.jsonl`` or ``.parquet`` file, a hub id, or the name of a known pack. The version is 1, and one more
    than that of the pack it replaces there if the items changed; equal items keep their version. Raises ``BadName`` for a
    name that ships, and what `load_pack` raises.
    """
    items, made_of = _items(source, columns)
    chosen = checked_name(name or _name_of(source), "the pack's name")
    if chosen in packs():
        raise BadName(f"a pack called {chosen} ships with provender; choose another with --name")
    if "/" in chosen:
        raise BadName(f"the pack's name {chosen!a} holds a '/'; packs lie in one folder")
    buffer = io.BytesIO()
    items.write_parquet(buffer, compression="zstd", compression_level=19, statistics=False)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    listed = to / f"{chosen}.yaml"
    before = PackInfo.model_validate(yaml.safe_load(listed.read_text("utf-8"))) if listed.exists() else None
    same = before is not None and before.sha256 == digest
    info = PackInfo(
        title=title or chosen,
        version=before.version + (not same) if before else 1,
        source=made_of,
        license=license_,
        split=f"{items.height:,} items",
        items=items.height,
        sha256=digest,
        released=released,
    )
    try:
        to.mkdir(parents=True, exist_ok=True)
        _replace(to / f"{chosen}.parquet", data)
        text = yaml.safe_dump(info.model_dump(mode="json", exclude_none=True), sort_keys=False, width=120)
        _replace(listed, text.encode())
    except OSError as error:
        raise StoreUnwritable(
            f"{to} cannot be written ({error}); name another folder, or set PROVENDER_HOME"
        ) from error
    return chosen, info


def add(source: str, **about: object) -> tuple[str, PackInfo]:
    """`build` into the folder of added packs: from then on recipes and commands know the pack by its name."""
    return build(source, pack_folder(), **about)  # type: ignore[arg-type]


def remove(name: str) -> None:
    """Forget an added pack; ``BadName`` if there is none of that name."""
    files = [pack_folder() / f"{checked_name(name)}{ending}" for ending in (".yaml", ".parquet")]
    if not files[0].exists():
        raise BadName(f"no pack called {name} was added; `provender benchmarks` lists them")
    for file in files:
        file.unlink(missing_ok=True)


def _items(source: str, columns: Mapping[str, str] | None) -> tuple[pl.DataFrame, str]:
    """The items and what they were made of: a file's own name, not where it lay."""
    if source.startswith("hub:"):
        return items_of(hub_rows(source)[0], source, columns), source
    if columns:
        return items_of(rows_of_file(Path(source)), source, columns), Path(source).name
    pack = load_pack(source)
    return pack.items, pack.name if pack.license else Path(source).name


def _name_of(source: str) -> str:
    return hub_rows(source)[1] if source.startswith("hub:") else Path(source).stem.lower()


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    half.write_bytes(data)
    os.replace(half, path)
