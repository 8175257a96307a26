"""A dot in a column's name is a letter like any other: no file format reads it as a path into a column."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.errors import UnreadableSource
from schemas.sources import SourceSpec
from storage.readers import read_source

ROWS = [
    {"x.question": f"Which number is {i}?", "x.answer": f"It is {i}.", "x": "plain", "x.note.deep": "kept"}
    for i in range(4)
]


def _lines(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


WRITERS: dict[str, Callable[[list[dict[str, Any]], Path], object]] = {
    "rows.parquet": lambda rows, path: pl.DataFrame(rows).write_parquet(path),
    "rows.csv": lambda rows, path: pl.DataFrame(rows).write_csv(path),
    "rows.jsonl": _lines,
    "rows.json": lambda rows, path: path.write_text(json.dumps(rows), encoding="utf-8"),
    "rows.arrow": lambda rows, path: pl.DataFrame(rows).write_ipc(path),
}


def _read(path: Path, **fields: str) -> pl.DataFrame:
    spec = SourceSpec.model_validate({"path": str(path), "fields": fields})
    return pl.concat(batch.examples for batch in read_source(spec))


@pytest.mark.parametrize("name", WRITERS)
def test_columns_that_share_what_stands_before_a_dot_are_columns_of_their_own(name: str, tmp_path: Path) -> None:
    WRITERS[name](ROWS, tmp_path / name)
    read = _read(tmp_path / name, prompt="x.question", completion="x.answer")
    assert [turn["content"] for turn in read["messages"][1]] == ["Which number is 1?", "It is 1."]
    extra = json.loads(read["extra"][1])
    assert (extra["x"], extra["x.note.deep"]) == ("plain", "kept")


def test_a_struct_and_a_column_named_like_its_field_are_told_apart_in_parquet(tmp_path: Path) -> None:
    rows = [{"instruction": "Say hi.", "output": "Hi.", "meta": {"lang": "en"}, "meta.lang": "de"}]
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    extra = json.loads(_read(tmp_path / "rows.parquet")["extra"][0])
    assert (extra["meta"], extra["meta.lang"]) == ({"lang": "en"}, "de")


def test_one_dotted_name_twice_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a.b,a.b\n1,2\n", encoding="utf-8")
    with pytest.raises(UnreadableSource, match="two columns"):
        _read(tmp_path / "rows.csv")
