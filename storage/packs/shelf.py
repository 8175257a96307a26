"""Benchmark packs: shipped and added ones by name, anyone's own by path or hub id; each with the digest of its bytes.

A pack is one Parquet file of ``item``, ``prompt`` and ``answer``, listed with its version, licence and SHA-256. Those that
ship lie in the package ``packs``; `add` puts others beside them, into ``packs/`` of ``$PROVENDER_HOME``. The digest enters
the identity of every step that used the pack: other items give another dataset version.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from schemas.errors import MissingSource, UnreadableSource, UntrustedSource
from schemas.lineage import checked_name

#: Largest own file: a benchmark is small, and this is read into memory at once.
MAX_BYTES = 1 << 30

ITEMS = {"item": pl.String, "prompt": pl.String, "answer": pl.String}
_PROMPTS = ("prompt", "question", "instruction", "text")
_ANSWERS = ("answer", "target", "output", "solution")
_NAMES = ("item", "id", "task_id", "idx")


class PackInfo(BaseModel):
    """What `packs.yaml` says about a shipped pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    version: int
    source: str
    license: str
    split: str
    items: int
    sha256: str
    released: date | None = None  # the day on which its items could first be read


@dataclass(frozen=True)
class Pack:
    """A benchmark: ``items`` has ``item`` (unique), ``prompt`` and ``answer`` (may be null), all text.

    ``digest`` is the SHA-256 of the file's bytes, ``version`` a number for shipped packs and the digest's first twelve
    digits for one's own.
    """

    name: str
    version: str
    digest: str
    items: pl.DataFrame = field(repr=False)
    source: str = ""
    license: str | None = None
    released: date | None = None


def packs() -> dict[str, PackInfo]:
    """The shipped packs by name."""
    listed = yaml.safe_load((files("packs") / "packs.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, PackInfo]).validate_python(listed)


def installed() -> dict[str, PackInfo]:
    """The packs that were added on this machine by name; none where nothing was. ``UnreadableSource`` for a broken list."""
    found: dict[str, PackInfo] = {}
    for path in sorted(pack_folder().glob("*.yaml")):
        try:
            found[path.stem] = PackInfo.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UnreadableSource(f"{path} does not describe a pack; remove it and add the pack again") from error
    return found


def known() -> dict[str, PackInfo]:
    """Every pack that has a name here: shipped, then added."""
    return {**packs(), **installed()}


def pack_folder() -> Path:
    """Where added packs lie: ``packs/`` of ``$PROVENDER_HOME``."""
    return Path(os.environ.get("PROVENDER_HOME") or Path.home() / ".local/state/provender") / "packs"


def load_pack(name_or_path: str | Path) -> Pack:
    """A shipped or added pack by its name, the items in a ``.jsonl`` or ``.parquet`` file, or those of a hub dataset.

    A file needs one row per item: ``prompt`` (or ``question``, ``instruction``, ``text``), if there is one ``answer``
    (or ``target``, ``output``, ``solution``), if there is one ``item`` (or ``id``, ``task_id``, ``idx``; row numbers
    otherwise). A hub id is ``hub:owner/name@commit[:config[/split]]``, split ``test`` where none is given.
    Raises ``MissingSource``, ``UnreadableSource`` or ``UntrustedSource``, each with the way out.
    """
    shipped, text = packs(), str(name_or_path)
    if text in shipped:
        return _shipped(text, shipped[text])
    added = installed()
    if text in added:
        return _stored(text, added[text], (pack_folder() / f"{text}.parquet"), "add the pack again")
    if text.startswith("hub:"):
        from storage.packs.hub import hub_rows

        rows, name = hub_rows(text)
        items = items_of(rows, text)
        digest = hashlib.sha256(items.write_json().encode()).hexdigest()
        return Pack(name, digest[:12], digest, items, text)
    path = Path(name_or_path)
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".parquet"):
        more = f"; added are {', '.join(added)}" if added else ""
        raise MissingSource(
            f"no benchmark pack {text[:80]!a}; shipped are {', '.join(shipped)}{more}; "
            "your own is the path of a .jsonl or .parquet file with a `prompt` column, or a hub id"
        )
    return _own(path, taken=shipped)


def _shipped(name: str, info: PackInfo) -> Pack:
    return _stored(name, info, files("packs") / f"{name}.parquet", "reinstall provender")


def _stored(name: str, info: PackInfo, file: Any, mend: str) -> Pack:
    """A pack whose file must be the one that was listed."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UnreadableSource(f"benchmark pack {name} cannot be read ({error}); {mend}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != info.sha256:
        raise UnreadableSource(
            f"benchmark pack {name} has the digest {digest[:12]}, its list says {info.sha256[:12]}; {mend}"
        )
    items = pl.read_parquet(io.BytesIO(data))
    return Pack(name, str(info.version), digest, items, info.source, info.license, info.released)


def rows_of_file(path: Path) -> pl.DataFrame:
    """The rows of a ``.jsonl`` or ``.parquet`` file as they are. Raises as `load_pack` does."""
    return _read(path, _bytes_of(path))


def _own(path: Path, taken: Mapping[str, PackInfo]) -> Pack:
    data = _bytes_of(path)
    name = checked_name(path.stem.lower(), f"benchmark file {path.name}: its name")
    digest = hashlib.sha256(data).hexdigest()
    items = items_of(_read(path, data), str(path))
    return Pack(f"{name}-own" if name in taken else name, digest[:12], digest, items, str(path))


def _bytes_of(path: Path) -> bytes:
    if not path.exists():
        raise MissingSource(f"benchmark file {path} does not exist; shipped packs are {', '.join(packs())}")
    if not path.is_file():
        raise UntrustedSource(f"benchmark {path} is not a regular file; give a .jsonl or .parquet file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UntrustedSource(f"benchmark file {path} has {size:,} bytes; a benchmark has at most {MAX_BYTES:,}")
    return path.read_bytes()


def _read(path: Path, data: bytes) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(data)) if path.suffix.lower() == ".parquet" else _lines(data)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableSource(
            f"benchmark file {path} cannot be read ({reason[:200]}); it needs one item per row"
        ) from error


def _lines(data: bytes) -> pl.DataFrame:
    """One JSON object per line; all lines are looked at before the columns are decided, so that types may vary."""
    return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)


def items_of(rows: pl.DataFrame, place: str, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """The three columns of a pack as text; ``columns`` names those that are called otherwise (``{"prompt": "q"}``).

    Raises ``UnreadableSource`` that says what is wrong with the rows of ``place``.
    """
    named = columns or {}
    absent = [f"{name!a:.60}" for name in named.values() if name not in rows.columns]
    if absent:
        raise UnreadableSource(
            f"benchmark file {place} has no column {', '.join(absent)}; it has {', '.join(rows.columns)[:200]}"
        )
    prompt, answer, name = (
        named.get(column) or _first(rows, choices)
        for column, choices in (("prompt", _PROMPTS), ("answer", _ANSWERS), ("item", _NAMES))
    )
    if prompt is None:
        raise UnreadableSource(
            f"benchmark file {place} has the columns {', '.join(rows.columns)[:200] or '(none)'}; one of "
            f"{', '.join(_PROMPTS)} must hold the text of each item"
        )
    if not rows.height:
        raise UnreadableSource(f"benchmark file {place} holds no item; give one row per item")
    other = [n for n in (prompt, answer, name) if n is not None and not _is_text(rows.schema[n])]
    if other:
        raise UnreadableSource(
            f"benchmark file {place} holds {rows.schema[other[0]]} in column {other[0]!r}; it must hold text or numbers"
        )
    numbers = pl.int_range(rows.height, eager=True).cast(pl.String)
    items = pl.DataFrame(
        {
            "item": numbers if name is None else rows[name].cast(pl.String),
            "prompt": rows[prompt].cast(pl.String),
            "answer": pl.Series([None] * rows.height, dtype=pl.String)
            if answer is None
            else rows[answer].cast(pl.String),
        },
        ITEMS,
    )
    if items["item"].null_count() or items["item"].n_unique() != items.height:
        raise UnreadableSource(
            f"benchmark file {place} has items without a name, or two of one name, in column {name!r}"
        )
    return items


def _is_text(kind: pl.DataType) -> bool:
    """Whether a column of this type reads as text without guessing."""
    return kind == pl.String or kind == pl.Null or kind.is_numeric() or kind.is_(pl.Categorical)


def _first(rows: pl.DataFrame, choices: tuple[str, ...]) -> str | None:
    return next((name for name in choices if name in rows.columns), None)
