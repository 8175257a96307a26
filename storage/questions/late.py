"""Whole rows of a few members as SQL: read when it is known which, not carried through every row that was looked at."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.lineage import DatasetRef, Manifest
from storage.questions.dense import places
from storage.questions.sql_names import literal
from storage.seek import Reader

_TEXTS = "id, source, messages, tools, worse, license"
_REST = "content_hash, synthetic_depth, extra"


def whole_rows_sql(
    reader: Reader, manifest: Manifest, files: Mapping[str, Sequence[str]], positions: Sequence[int]
) -> str:
    """A table of the members at these positions, at least one, in this order: ``position`` and the stored columns.

    Texts of a published version come from its own copy, where rows that are near in it are near. ``files`` are the
    version's objects as ``query`` names them. No row group without one of the rows is read.
    """
    where = places(reader, manifest.ref).at(np.array(positions, dtype=np.int64))
    published = "train" in files
    told = zip(range(len(positions)), positions, where.home.tolist(), where.row.tolist(), strict=True)
    values = ", ".join(f"({nr}, {position}, {home}, {row})" for nr, position, home, row in told)
    tables: list[str] = []
    for number in np.unique(where.home).tolist():
        home = where.homes[number]
        rows = np.unique(where.row[where.home == number])
        columns = _REST if published else f"{_TEXTS}, {_REST}"
        tables += _rows_sql(reader, home, files[f"examples of {home}"], number, rows.tolist(), columns)
    joined = f'(VALUES {values}) v(nr, position, home, "row") JOIN ({" UNION ALL ".join(tables)}) e USING (home, "row")'
    if published:
        listed = ", ".join(str(position) for position in positions)
        own = f"SELECT position, {_TEXTS} FROM read_parquet([{', '.join(map(literal, files['train']))}])"
        joined += f" JOIN ({own} WHERE position IN ({listed})) t USING (position)"
    return f"SELECT v.position::BIGINT AS position, {_TEXTS}, {_REST} FROM {joined} ORDER BY v.nr"


def _rows_sql(
    reader: Reader, home: DatasetRef, files: Sequence[str], number: int, rows: Sequence[int], columns: str
) -> list[str]:
    """Some rows of a home's examples, object by object: Parquet knows a row by its number in its file."""
    found: list[str] = []
    first = 0
    for part, file in zip(reader.manifest(home).parts["examples"], files, strict=True):
        mine = ", ".join(str(row - first) for row in rows if first <= row < first + part.rows)
        if mine:
            found.append(
                f'SELECT {number} AS home, file_row_number + {first} AS "row", {columns} '
                f"FROM read_parquet([{literal(file)}], file_row_number = true) WHERE file_row_number IN ({mine})"
            )
        first += part.rows
    return found
