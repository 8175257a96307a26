"""Exact and minhash over ten times the rows: made in shards, read in batches, each finished figure kept, so that it resumes."""

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._copies import NEAR, pool_of, real_rows
from benchmarks._machine import Watch, peak_mib
from methods.dedup.exact import Exact
from methods.dedup.minhash import MinHash
from schemas.method import Using

SHARD = 100_000
METHODS: dict[str, dict[str, Any]] = {"minhash, as it ships": {}, "exact": {}}


def growth(folder: Path, rows: int, data: str | None, only: str | None = None) -> None:
    """A tenth of the rows and all of them, each method in a process of its own; figures that are there are told again."""
    write_shards(folder / "shards", rows, data)
    known = folder / "growth.json"
    found: dict[str, Any] = json.loads(known.read_text()) if known.exists() else {}
    print(f"growth, {os.cpu_count()} cores; peak memory of the process, and of it what is not pages of temporary files")
    print(f"{'':40}{'rows':>12}{'wall s':>9}{'cpu s':>9}{'rows/s':>10}{'peak MiB':>10}{'anon MiB':>10}{'dropped':>11}")
    for name in METHODS:
        if only and only not in name:
            continue
        for count in (rows // 10, rows):
            key = f"{name} / {count}"
            if key not in found:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found[key] = pool.apply(run, (name, str(folder / "shards"), count))
                known.write_text(json.dumps(found, indent=1))
            one = found[key]
            print(
                f"{name:40}{count:12,}{one['wall']:9.1f}{one['cpu']:9.1f}{count / one['wall']:10,.0f}"
                f"{one['peak_mib']:10,.0f}{one['anon_mib']:10,.0f}{one['dropped']:11,}",
                flush=True,
            )
        few, many = (found[f"{name} / {count}"] for count in (rows // 10, rows))
        print(
            f"{name}: ten times the rows take {many['wall'] / few['wall']:.1f} x the time, {many['cpu'] / few['cpu']:.1f} x the cpu"
        )


def write_shards(folder: Path, rows: int, data: str | None) -> None:
    """Rows as `benchmarks._copies` makes them, the copies of each shard drawn with its number; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [start for start in range(0, rows, SHARD) if not (folder / f"{start:010d}.parquet").exists()]
    if not missing:
        return
    split = [text.split(" ") for text in real_rows(data)]
    lengths = np.array([len(words) for words in split])
    vocabulary = [word for words in split for word in words if word]  # as frequent as they are
    for start in missing:
        texts = pl.DataFrame({"text": shard(split, lengths, vocabulary, start, min(SHARD, rows - start))})
        unfinished = folder / f"{start:010d}.unfinished"
        texts.write_parquet(unfinished, compression="zstd", compression_level=1)
        unfinished.rename(folder / f"{start:010d}.parquet")


def shard(split: list[list[str]], lengths: np.ndarray, vocabulary: list[str], start: int, rows: int) -> list[str]:
    """Row ``start`` and those after it: real rows first, then copies with words replaced."""
    rng = np.random.default_rng([start, 1])
    base = (start + np.arange(rows)) % len(split)
    near = rng.random(rows) < NEAR
    edits = np.where(near, rng.integers(0, 3, rows), np.maximum(3, lengths[base] // 3))
    edits[start + np.arange(rows) < len(split)] = 0
    ends = np.cumsum(edits)
    where = (rng.random(int(ends[-1])) * np.repeat(lengths[base], edits)).astype(np.int64).tolist()
    what = rng.integers(0, len(vocabulary), int(ends[-1])).tolist()
    texts: list[str] = []
    for row, end, many in zip(base.tolist(), ends.tolist(), edits.tolist(), strict=True):
        words = list(split[row])
        for at in range(end - many, end):
            words[where[at]] = vocabulary[what[at]]
        texts.append(" ".join(words))
    return texts


def run(name: str, folder: str, count: int) -> dict[str, Any]:
    """The method over the first rows of the shards, read twice at most; verdicts are counted and let go."""
    fields = METHODS[name]
    method = Exact(on="answer") if name == "exact" else MinHash(on="answer", **fields)
    anon = Watch()
    wall, cpu, dropped = time.perf_counter(), time.process_time(), 0
    for said in method.judge_batches(
        lambda: batches(Path(folder), count), count, using=Using(), rng=np.random.default_rng(0)
    ):
        dropped += int((said["fate"] == "reject").sum())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "peak_mib": peak_mib(), "anon_mib": anon.stop(), "dropped": dropped}


def batches(folder: Path, count: int) -> Iterator[pl.DataFrame]:
    """The shards as EXAMPLES; ids ascend."""
    for start in range(0, count, SHARD):
        texts = pl.read_parquet(folder / f"{start:010d}.parquet")["text"].head(count - start)
        yield pool_of(texts, start)
