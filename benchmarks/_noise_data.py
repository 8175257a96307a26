"""Rows of which it is known which are bad: Alpaca against its human-cleaned edition, and real rows with swapped targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from backends.protocols import Embedder
from methods.asking.prompts import question
from schemas.examples import EXAMPLES, conform, turns
from schemas.identity import digest16

SHIPPED = Path(__file__).resolve().parent.parent / "recipes" / "data" / "permissive_instructions.jsonl"
LABELS = Path("noise") / "alpaca_noise_labels.parquet"

Row = dict[str, str]


@dataclass(frozen=True)
class Known:
    """Rows with their truth. ``kinds`` names groups of bad rows: each is measured against all the good ones."""

    name: str
    rows: list[Row]
    bad: np.ndarray
    kinds: dict[str, np.ndarray]


def read_rows(path: Path) -> list[Row]:
    """Rows with instruction, input and output (or Self-Instruct instances), each with an answer."""
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path)
    found: list[Row] = []
    for row in frame.to_dicts():
        for pair in row.get("instances") or [row]:
            one = {"instruction": row["instruction"], "input": pair.get("input") or "", "output": pair["output"] or ""}
            if one["instruction"].strip() and one["output"].strip():
                found.append({key: value.strip() for key, value in one.items()})
    return found


def alpaca_known(folder: Path, rows: int, rng: np.random.Generator) -> Known:
    """All rows that the cleaned edition removed or changed, and good ones (kept, unchanged, no issue tag) up to ``rows``.

    Rows whose answer alone was regenerated later, and ``replaced`` ones (often right but dull), are neither. Bad rows
    without an answer are left out: no signal is needed to find them.
    """
    labels = pl.read_parquet(folder / LABELS).filter(pl.col("output").str.strip_chars() != "")
    changed = pl.col("snap_mar26") == "changed"
    bad = labels.filter(
        changed.fill_null(False) | pl.col("final_status").is_in(["removed", "input_edited", "instruction_edited"])
    )
    good = labels.filter(
        (pl.col("final_status") == "kept")
        & (pl.col("snap_mar26").fill_null("unchanged") == "unchanged")
        & (pl.col("rule_tags").list.len() == 0)
    )
    picked = good[np.sort(rng.permutation(good.height)[: max(0, rows - bad.height)])]
    both = pl.concat([bad, picked])[rng.permutation(bad.height + picked.height)]
    is_bad = both["orig_idx"].is_in(bad["orig_idx"].implode()).to_numpy()
    answer = both.select(
        pl.col("snap_changed_fields").list.contains("output").fill_null(False)
        | (pl.col("final_status") == "removed").fill_null(False)
    ).to_series()
    kinds = {
        "answer changed, or row removed": is_bad & answer.to_numpy(),
        "question or input changed": is_bad & ~answer.to_numpy(),
    }
    return Known("Alpaca against its cleaned edition", plain(both), is_bad, kinds)


def alpaca_clean(folder: Path) -> list[Row]:
    """Alpaca rows that the cleaned edition left as they were, without an issue tag: real rows to plant noise in."""
    labels = pl.read_parquet(folder / LABELS)
    clean = labels.filter(
        (pl.col("snap_mar26") == "unchanged")
        & (pl.col("final_status").fill_null("kept") == "kept")
        & (pl.col("rule_tags").list.len() == 0)
        & (pl.col("output").str.strip_chars() != "")
    )
    return plain(clean)


def plain(frame: pl.DataFrame) -> list[Row]:
    """Instruction, input and output, stripped."""
    fields = ("instruction", "input", "output")
    return [{key: (row[key] or "").strip() for key in fields} for row in frame.select(fields).to_dicts()]


def swapped(
    name: str, rows: Sequence[Row], fraction: float, near: int, embedder: Embedder, rng: np.random.Generator
) -> Known:
    """Targets of a ``fraction`` of rows replaced by those of rows with a ``near``-est question."""
    vectors = embedder.embed([asked(row) for row in rows])
    order = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")
    noisy = np.zeros(len(rows), dtype=bool)
    noisy[rng.permutation(len(rows))[: round(fraction * len(rows))]] = True
    planted: list[Row] = []
    for row, bad, nearest in zip(rows, noisy, order, strict=True):
        others = [rows[int(i)]["output"] for i in nearest if rows[int(i)]["output"] != row["output"]][:near]
        planted.append({**row, "output": others[int(rng.integers(len(others)))]} if bad else row)
    return Known(name, planted, noisy, {})


def asked(row: Row) -> str:
    """The user turn."""
    return question(row["instruction"], row["input"])


def examples(rows: Sequence[Row]) -> pl.DataFrame:
    """EXAMPLES columns; the id of row i is that of the number i."""
    found = [
        {
            "id": digest16(f"{i}".encode()),
            "source": "rows",
            "messages": turns(("user", asked(row)), ("assistant", row["output"])),
        }
        for i, row in enumerate(rows)
    ]
    return conform(pl.DataFrame(found, schema_overrides=dict(EXAMPLES)), EXAMPLES, "rows")
