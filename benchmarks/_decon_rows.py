"""Rows for the decontamination benchmark: real instructions multiplied with edits, and planted leaks, as Parquet shards."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from schemas.examples import EXAMPLES, conform, turns
from storage.packs.shelf import load_pack, packs

SHIPPED = Path(__file__).resolve().parent.parent / "recipes" / "data"
FILES = {
    "gpteacher_codegen.jsonl": ("instruction", "input", "response"),
    "permissive_instructions.jsonl": ("instruction", "input", "output"),
}
LEAK_EVERY = 200
SHARD = 50_000


def seeds(data: Path | None) -> list[tuple[str, str]]:
    """(question, answer): the shipped sample data, and Alpaca's where a folder of data is given."""
    found: list[tuple[str, str]] = []
    for name, (ask, given, answer) in FILES.items():
        for line in (SHIPPED / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append((f"{row[ask]}\n{row.get(given) or ''}".strip(), row[answer]))
    more = data / "instructions" / "alpaca_52k.parquet" if data else None
    if more and more.exists():
        frame = pl.read_parquet(more, columns=["instruction", "input", "output"]).fill_null("")
        found += [(f"{ask}\n{given}".strip(), said) for ask, given, said in frame.iter_rows()]
    return found


def data_folder(given: str | None) -> Path | None:
    """The folder of local data, from the option or the environment."""
    text = given or os.environ.get("PROVENDER_DATA")
    return Path(text) if text else None


def items() -> pl.DataFrame:
    """All items of all shipped packs: ``benchmark``, ``item``, ``prompt``, ``answer``."""
    return pl.concat([load_pack(n).items.select(pl.lit(n).alias("benchmark"), pl.all()) for n in packs()])


def write_shards(folder: Path, rows: int, data: Path | None) -> int:
    """EXAMPLES in files of ``SHARD`` rows; the number of words in them.

    Row 0, 200, 400 … is an item of a pack, by turns verbatim and in the middle of a longer turn; every other row beyond
    the seeds is a seed in which one word in ten was replaced by another of the corpus.
    """
    dice, real = random.Random(0), seeds(data)
    split = [(ask.split(" "), said.split(" ")) for ask, said in real]
    vocabulary = sorted({word for pair in split for words in pair for word in words})
    leaks = [p for p in items()["prompt"].to_list() if len(p.split()) >= 16]
    words = 0
    for begin in range(0, rows, SHARD):
        said: list[list[dict[str, str | None]]] = []
        for row in range(begin, min(begin + SHARD, rows)):
            prompt, answer = real[row % len(real)]
            if row % LEAK_EVERY == 0:
                leak = dice.choice(leaks)
                prompt = leak if row % (2 * LEAK_EVERY) else f"{prompt}\n\n{leak}\n\nThank you."
            elif row >= len(real):
                prompt, answer = (edited(part, vocabulary, dice) for part in split[row % len(real)])
            said.append(turns(("user", prompt), ("assistant", answer)))
            words += prompt.count(" ") + answer.count(" ") + 2
        ids = pl.Series("id", [n.to_bytes(16, "little") for n in range(begin, begin + len(said))], dtype=pl.Binary)
        frame = pl.DataFrame({"id": ids, "content_hash": ids, "source": ["bench"] * len(said), "messages": said})
        missing = (pl.lit(None).alias(n) for n in EXAMPLES if n not in frame.columns)
        conform(frame.with_columns(*missing), EXAMPLES, "rows").write_parquet(folder / f"{begin:010d}.parquet")
    return words


def edited(words: list[str], vocabulary: list[str], dice: random.Random) -> str:
    """One word in ten replaced."""
    copy = list(words)
    for _ in range(max(1, len(copy) // 10)):
        copy[int(dice.random() * len(copy))] = vocabulary[int(dice.random() * len(vocabulary))]
    return " ".join(copy)


def read_shards(folder: Path, rows: int) -> Iterator[pl.DataFrame]:
    """The rows, shard by shard; past the end the shards come again, so that ten times as many need no more disk."""
    files, given = sorted(folder.glob("*.parquet")), 0
    while given < rows:
        for file in files:
            frame = pl.read_parquet(file).head(rows - given)
            given += frame.height
            yield frame
            if given >= rows:
                return
