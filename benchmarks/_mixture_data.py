"""Real short rows for the mixture study: sources to mix and groups to do well on, as JSONL files of prompts and answers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from backends.train.sprout_items import is_held_out
from methods.asking.prompts import question

SHIPPED = Path(__file__).resolve().parent.parent / "recipes" / "data"

#: Longer rows cost most of a proxy's time: of the data folder's rows, which are many, and of the shipped ones.
MAX_CHARACTERS = {True: 260, False: 700}

Row = tuple[str, str, str]  # instruction, input, answer


def alpaca(path: Path, answer: str = "output") -> Iterator[Row]:
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path, infer_schema_length=None)
    for row in frame.to_dicts():
        yield row["instruction"], row.get("input") or "", row[answer] or ""


def seed_tasks(path: Path) -> Iterator[Row]:
    for row in pl.read_ndjson(path, infer_schema_length=None).to_dicts():
        for pair in row["instances"]:
            yield row["instruction"], pair.get("input") or "", pair["output"] or ""


def columns(path: Path, prompt: str, answer: str, only: pl.Expr | None = None) -> Iterator[Row]:
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path, infer_schema_length=None)
    for row in (frame if only is None else frame.filter(only)).to_dicts():
        yield row[prompt], "", str(row[answer])


def induction(path: Path) -> Iterator[Row]:
    for row in pl.read_parquet(path).to_dicts():
        pair = json.loads(row["example_json"])
        if isinstance(pair.get("input"), str) and isinstance(pair.get("output"), str):
            yield row["task"], pair["input"], pair["output"]


def tool_calls(path: Path) -> Iterator[Row]:
    """The task alone, without the lines that explain the tool."""
    for row in pl.read_parquet(path).to_dicts():
        yield row["instruction"].splitlines()[-1], row["input"] or "", row["response"]


def lego(path: Path) -> Iterator[Row]:
    for row in pl.read_parquet(path).to_dicts():
        clauses, asked = row["text"].removeprefix("Input: ").split(" Output: ")
        yield clauses, asked, str(row["label"])


def shipped() -> tuple[dict[str, Callable[[], Iterator[Row]]], list[str]]:
    """The four files beside the recipes, and the groups to measure: a held-out part of each."""
    sources: dict[str, Callable[[], Iterator[Row]]] = {
        "instructions": lambda: alpaca(SHIPPED / "permissive_instructions.jsonl"),
        "code": lambda: alpaca(SHIPPED / "gpteacher_codegen.jsonl", "response"),
        "math-solutions": lambda: columns(SHIPPED / "gsm8k_solutions.jsonl", "question", "solution"),
        "seed-tasks": lambda: seed_tasks(SHIPPED / "seed_tasks.jsonl"),
    }
    return sources, list(sources)


def shared(data: Path) -> tuple[dict[str, Callable[[], Iterator[Row]]], list[str]]:
    """Seven permissive files of the data folder; four of them are what the model is to do well on, three are not."""
    sources: dict[str, Callable[[], Iterator[Row]]] = {
        "instructions": lambda: alpaca(data / "instructions" / "permissive_instructions_1100.parquet"),
        "code": lambda: alpaca(data / "instructions" / "gpteacher_codegen.parquet", "response"),
        "arithmetic": lambda: columns(data / "benchmarks" / "svamp_asdiv.parquet", "input", "target"),
        "small-tasks": lambda: induction(data / "instructions" / "instruction_induction.parquet"),
        "math-steps": lambda: columns(
            data / "benchmarks" / "gsm8k.parquet", "question", "answer", pl.col("split") == "train"
        ),
        "tool-calls": lambda: tool_calls(data / "near_dup" / "toolformer_dedup_levels.parquet"),
        "lego": lambda: lego(data / "mixture" / "lego_chain5_train.parquet"),
    }
    return sources, ["instructions", "code", "arithmetic", "small-tasks"]


def write(folder: Path, data: Path | None, target_rows: int) -> tuple[list[str], list[str]]:
    """``<source>.jsonl`` and ``target-<group>.jsonl`` in ``folder``; names of the sources and of the groups.

    The target's rows are held out of the sources, and those that the embedded model was not trained on come first.
    """
    sources, groups = shared(data) if data else shipped()
    longest = MAX_CHARACTERS[data is not None]
    folder.mkdir(parents=True, exist_ok=True)
    for name, read in sources.items():
        rows = dict.fromkeys(row for row in read() if row[2].strip() and sum(map(len, row)) <= longest)
        order = sorted(rows, key=lambda row: not is_held_out(row[0], row[1], fraction=0.1))
        held = set(order[:target_rows]) if name in groups else set[Row]()
        _jsonl(folder / f"{name}.jsonl", [row for row in rows if row not in held])
        if held:
            _jsonl(folder / f"target-{name}.jsonl", [row for row in order if row in held])
    return list(sources), groups


def _jsonl(path: Path, rows: list[Row]) -> None:
    lines = [json.dumps({"prompt": question(a, b), "completion": c}, ensure_ascii=False) for a, b, c in rows]
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
