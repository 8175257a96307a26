"""Examples to the files of a trainer's format. What a format cannot say is written beside it with the reason."""

import json
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from schemas.errors import StoreUnwritable, UsageError
from schemas.lineage import checked_name
from storage.export.configs import axolotl_yaml, dataset_info
from storage.export.example import NotExpressible, Outgoing
from storage.export.formats import FORMATS, Line
from storage.export.tables import csv_row, csv_writer, messages_frame, parquet_rows, save_hub_folder

#: Every format of rows.
CHOICES = (*FORMATS, "messages-parquet", "parquet", "csv", "hub")

#: What tells about a version and its lineage: written from a store (``openlineage.py``, ``croissant.py``), not from rows.
ABOUT = ("openlineage", "croissant")


@dataclass(frozen=True)
class Exported:
    """What an export wrote. ``rows + sum(not_exported.values())`` is the number of examples."""

    paths: list[Path]
    rows: int
    not_exported: Counter[str] = field(default_factory=Counter)


def export(
    frame: pl.DataFrame | Iterable[pl.DataFrame], format: str, out_dir: str | Path, *, name: str, raw: bool = False
) -> list[Path]:
    """Write EXAMPLES-like rows in a format; the files written. See ``export_report``."""
    return export_report(frame, format, out_dir, name=name, raw=raw).paths


def export_report(
    frame: pl.DataFrame | Iterable[pl.DataFrame], format: str, out_dir: str | Path, *, name: str, raw: bool = False
) -> Exported:
    """Write EXAMPLES-like rows (one frame or batches of a version, in order) in one of ``CHOICES``.

    Files are called after ``name``. Examples that do not fit go to ``<name>.not_exported.jsonl``, one line each with the
    reason. ``raw`` leaves CSV cells that look like formulas as they are. Existing files of these names are replaced, each
    in one step. Raises ``UsageError`` for an unknown format, ``BadName``, ``StoreUnwritable``.
    """
    if format not in CHOICES:
        raise UsageError(f"unknown format {format!r}; choose one of {', '.join((*CHOICES, *ABOUT))}")
    stem = checked_name(name).replace("/", "-")
    frames = [frame] if isinstance(frame, pl.DataFrame) else frame
    with _mapped(out_dir):
        folder = Path(out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with _Files(folder, stem) as files:
            if format in FORMATS:
                return _lines(frames, format, files)
            return _table(frames, format, files, raw=raw)


def _lines(frames: Iterable[pl.DataFrame], format: str, files: "_Files") -> Exported:
    convert = FORMATS[format]
    parts: Counter[str] = Counter()
    for example in _examples(frames):
        try:
            line = convert(example)
        except NotExpressible as why:
            files.refuse(example, why)
            continue
        if format == "axolotl" and line.part == "prompt-completion":
            line = Line(
                "",
                {**_without(line.row, "prompt", "completion"), "messages": line.row["prompt"] + line.row["completion"]},
            )
        elif format == "axolotl" and line.part == "messages":
            line = line._replace(part="")
        parts[line.part] += 1
        files.text(line.part, ".jsonl").write(_json_line(line.row))
    if not parts and format != "original":
        files.text("", ".jsonl")
    written = {part: files.path(part, ".jsonl") for part in sorted(parts)}
    if format == "llama-factory" and written:
        files.whole(files.folder / "dataset_info.json", dataset_info(files.folder, files.stem, written))
    if format == "axolotl":
        for part, path in written.items():
            files.whole(files.path(part, ".axolotl.yaml"), axolotl_yaml(part, path))
    return files.exported(sum(parts.values()))


def _table(frames: Iterable[pl.DataFrame], format: str, files: "_Files", *, raw: bool) -> Exported:
    if format == "csv":
        writer, rows = csv_writer(files.text("", ".csv")), 0
        for example in _examples(frames):
            writer.writerow(csv_row(example, raw=raw))
            rows += 1
        return files.exported(rows)
    if format == "parquet":
        batches = [parquet_rows(batch) for batch in frames]
        table = pl.concat(batches) if batches else pl.DataFrame()
        files.parquet("", table)
        return files.exported(table.height)
    table = messages_frame(_examples(frames), files.refuse)
    if format == "messages-parquet":
        files.parquet("", table)
        return files.exported(table.height)
    folder = files.folder / files.stem
    if folder.exists() and any(folder.iterdir()):
        raise StoreUnwritable(f"{folder} exists and is not empty; choose another name or remove it")
    save_hub_folder(table, folder)
    files.written.append(folder)
    return files.exported(table.height)


def _examples(frames: Iterable[pl.DataFrame]) -> Iterator[Outgoing]:
    for frame in frames:
        for row in frame.iter_rows(named=True):
            yield Outgoing.of(row)


def _json_line(row: dict[str, Any]) -> str:
    """One line of JSONL; line breaks that only some readers know (U+0085, U+2028, U+2029) are escaped."""
    return json.dumps(row, ensure_ascii=False).translate(_LINE_BREAKS) + "\n"


_LINE_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def _without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


class _Files:
    """The files of one export: written under temporary names, renamed together when all of them are complete."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem
        self.written: list[Path] = []
        self.not_exported: Counter[str] = Counter()
        self._texts: dict[Path, TextIO] = {}
        self._pending: dict[Path, Path] = {}

    def path(self, part: str, ending: str) -> Path:
        """``<name>.<part><ending>``."""
        return self.folder / f"{self.stem}{f'.{part}' if part else ''}{ending}"

    def text(self, part: str, ending: str) -> TextIO:
        """The text file of a part, opened once."""
        path = self.path(part, ending)
        if path not in self._texts:
            self._texts[path] = self._temporary(path).open("w", encoding="utf-8", newline="")
        return self._texts[path]

    def whole(self, path: Path, data: bytes) -> None:
        """A file of a few bytes."""
        self._temporary(path).write_bytes(data)

    def parquet(self, part: str, table: pl.DataFrame) -> None:
        """A Parquet file."""
        table.write_parquet(self._temporary(self.path(part, ".parquet")))

    def refuse(self, example: Outgoing, why: NotExpressible) -> None:
        """Write one example down as not exported."""
        self.not_exported[why.reason] += 1
        row = {"id": example.id, "reason": why.reason, "found": why.found}
        self.text("not_exported", ".jsonl").write(_json_line(row))

    def exported(self, rows: int) -> Exported:
        """Put every file in its place and say what was written."""
        for handle in self._texts.values():
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
        for path, temporary in self._pending.items():
            temporary.replace(path)
            self.written.append(path)
        self._pending.clear()
        return Exported(sorted(self.written), rows, self.not_exported)

    def _temporary(self, path: Path) -> Path:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._pending[path] = temporary
        return temporary

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._texts.values():
            handle.close()
        for temporary in self._pending.values():
            temporary.unlink(missing_ok=True)


@contextmanager
def _mapped(out_dir: str | Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnwritable(
            f"cannot write to {out_dir}: {error.strerror or error}; free space or choose another folder, nothing was replaced"
        ) from error
