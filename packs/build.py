"""Makes the benchmark packs from the upstream files: ``python -m packs.build FOLDER`` (see README.md for the sources).

Run it when a source changes, raise the pack's version below, and commit the files with the new `packs.yaml`.
"""

import hashlib
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import yaml


@dataclass(frozen=True)
class Recipe:
    """How one pack is made: which file, which rows, what is the item's name, prompt and answer."""

    file: str
    title: str
    source: str
    licence: str
    split: str
    item: pl.Expr
    prompt: pl.Expr
    answer: pl.Expr
    rows: pl.Expr | None = None
    version: int = 1


_CHOICE = pl.coalesce(*(pl.when(pl.col("answer") == letter).then(pl.col(letter)) for letter in "ABCD"))
_NUMBER = pl.int_range(pl.len()).cast(pl.String)

#: Day of each benchmark's first version on arXiv: from then on its items could be read.
RELEASED = {
    "gsm8k": "2021-10-27", "humaneval": "2021-07-07", "mbpp": "2021-08-16", "mmlu": "2020-09-07",
    "truthfulqa": "2021-09-08", "bbh": "2022-10-17", "ifeval": "2023-11-14",
}  # fmt: skip

RECIPES = {
    "gsm8k": Recipe(
        "gsm8k.parquet", "GSM8K, grade-school mathematics", "openai/grade-school-math@3101c7d5", "MIT",
        "test, complete: 1,319 items", pl.col("idx").cast(pl.String), pl.col("question"), pl.col("answer"),
        pl.col("split") == "test",
    ),
    "humaneval": Recipe(
        "humaneval.parquet", "HumanEval, Python functions", "openai/human-eval@6d43fb98", "MIT",
        "test, complete: 164 items", pl.col("task_id"), pl.col("prompt"), pl.col("canonical_solution"),
    ),
    "mbpp": Recipe(
        "mbpp_1_510.parquet", "MBPP, basic Python problems", "deepseek-ai/DeepSeek-Coder@2f9fd859 (from google-research)",
        "CC-BY-4.0", "prompt and test, tasks 1 to 510, complete", pl.col("task_id").cast(pl.String), pl.col("text"),
        pl.col("code"),
    ),
    "mmlu": Recipe(
        "mmlu_46_subjects.parquet", "MMLU, multiple choice in 46 of 57 subjects",
        "TIGER-AI-Lab/CritiqueFineTuning@44b83b8c (from hendrycks/test)", "MIT",
        "test, 46 subjects; the prompt is the question, the answer the text of the right choice",
        pl.col("subject") + "/" + pl.col("idx").cast(pl.String), pl.col("question"), _CHOICE, pl.col("split") == "test",
    ),
    "truthfulqa": Recipe(
        "truthfulqa.parquet", "TruthfulQA, questions that invite false answers",
        "benedictflorance/truthfulqa_experiments@6fdfd382 (from sylinrl/TruthfulQA)", "Apache-2.0",
        "generation, 476 of 817 items; the answer is the best reference", _NUMBER, pl.col("question"),
        pl.col("best_answer"),
    ),
    "bbh": Recipe(
        "bbh.parquet", "BIG-Bench Hard", "TIGER-AI-Lab/CritiqueFineTuning@44b83b8c (from suzgunm/BIG-Bench-Hard)", "MIT",
        "test, 5,000 of 6,511 items", pl.col("task") + "/" + pl.int_range(pl.len()).over("task").cast(pl.String),
        pl.col("question"), pl.col("answer"),
    ),
    "ifeval": Recipe(
        "ifeval.parquet", "IFEval, instructions that can be verified", "josejg/instruction_following_eval@0c495b2f",
        "Apache-2.0", "413 of 541 prompts; there are no reference answers", pl.col("key").cast(pl.String),
        pl.col("prompt"), pl.lit(None, pl.String),
    ),
}  # fmt: skip


def build(folder: Path, target: Path) -> None:
    """Write every pack and the list of packs into ``target``."""
    listed: dict[str, dict[str, object]] = {}
    for name, recipe in RECIPES.items():
        rows = pl.read_parquet(folder / recipe.file)
        if recipe.rows is not None:
            rows = rows.filter(recipe.rows)
        items = rows.select(
            recipe.item.alias("item"), recipe.prompt.alias("prompt"), recipe.answer.cast(pl.String).alias("answer")
        )
        assert items["item"].n_unique() == items.height, f"{name}: items with one name"
        file = target / f"{name}.parquet"
        items.write_parquet(file, compression="zstd", compression_level=19, statistics=False)
        listed[name] = {
            "title": recipe.title,
            "version": recipe.version,
            "source": recipe.source,
            "license": recipe.licence,
            "split": recipe.split,
            "items": items.height,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "released": date.fromisoformat(RELEASED[name]),
        }
    head = (
        "# The benchmark packs that ship, made by `python -m packs.build`; storage/packs/shelf.py checks the digests.\n"
    )
    (target / "packs.yaml").write_text(head + yaml.safe_dump(listed, sort_keys=False, width=120), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m packs.build FOLDER_WITH_THE_UPSTREAM_FILES")
    build(Path(sys.argv[1]), Path(__file__).parent)
