"""Makes ``rephrased.parquet``, real rephrasings of items for the self-test: ``python -m packs.rephrase FOLDER``.

FOLDER holds the rephrasings of lm-sys/llm-decontaminator (Apache-2.0) as Parquet files, see README.md.
"""

import sys
from pathlib import Path

import polars as pl

_EACH = 100  # of a benchmark


def build(folder: Path, target: Path) -> None:
    """Write ``benchmark``, ``item`` and ``text``: up to a hundred rephrasings of a benchmark, chosen by a hash."""
    gsm8k = pl.read_parquet(folder / "gsm8k_variants.parquet").filter(variant="llm_rephrase")
    code = pl.read_parquet(folder / "humaneval_variants.parquet").filter(variant="llm_rephrase_python")
    mmlu = pl.concat(
        [pl.read_parquet(folder / f"mmlu_{name}_rephrased.parquet") for name in ("sociology", "abstract_algebra")]
    ).filter(pl.col("rephrase_english").is_not_null())
    found = pl.concat(
        [
            _rows(gsm8k, "gsm8k", pl.col("test_idx").cast(pl.String), pl.col("text")),
            _rows(code, "humaneval", "HumanEval/" + pl.col("task_no").cast(pl.String), pl.col("text")),
            _rows(mmlu, "mmlu", pl.col("subject") + "/" + pl.col("idx").cast(pl.String), pl.col("rephrase_english")),
        ]
    )
    found.write_parquet(target / "rephrased.parquet", compression="zstd", compression_level=19, statistics=False)


def _rows(frame: pl.DataFrame, benchmark: str, item: pl.Expr, text: pl.Expr) -> pl.DataFrame:
    rows = frame.select(pl.lit(benchmark).alias("benchmark"), item.alias("item"), text.alias("text"))
    chosen = rows.with_columns(pl.col("text").hash(7).alias("key")).sort("key").head(_EACH)
    return chosen.select("benchmark", "item", "text").sort("item")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m packs.rephrase FOLDER_WITH_THE_REPHRASINGS")
    build(Path(sys.argv[1]), Path(__file__).parent)
