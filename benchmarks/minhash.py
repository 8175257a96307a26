"""MinHash dedup of a million rows beside rensa, datasketch and datatrove, and precision and recall where truth is known.

Rows: real instructions (those shipped; with ``--data`` also Alpaca's) and copies of them, one copy in five a
near-duplicate with at most two words replaced, the others with a third of their words replaced. All sides get the same
rows, word 5-grams, 128 permutations, 16 bands and threshold 0.7, and both cores; the peers run in an environment made for
the occasion, with plain lower-cased words by white space (their cheapest). rensa's two ways: its streaming deduplicator
(says who repeats, not whom), and its batch calls with union-find. Slow peers get fewer rows, and the ratio is of rows per
second. Peak memory is the whole process's, rows included; `rewritten` counts dropped copies that were not meant to be
near (those that ours drops are alike all the same, by their true similarity). `--only growth` (and any number of rows
above two million) measures exact and minhash alone, on a tenth of the rows and on all of them, streamed from shards; with
`--work` it goes on where it was cut short. Usage:
`python -m benchmarks.minhash [--rows 1000000] [--quick] [--data FOLDER] [--only …] [--work FOLDER]`.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._copies import Copies, copies, pool_of, real_rows
from benchmarks._dedup_growth import growth
from benchmarks._machine import peak_mib
from benchmarks._throwaway import environment
from methods.dedup.minhash import MinHash
from methods.texts.shingles import shingles
from schemas.method import Using

NGRAM, PERMUTATIONS, BANDS, THRESHOLD = 5, 128, 16, 0.7
SAME = {"ngram": NGRAM, "bands": BANDS, "rows": PERMUTATIONS // BANDS, "threshold": THRESHOLD}
PEERS = {"rensa-streaming": 10**9, "rensa-clusters": 10**9, "datasketch": 20_000, "datatrove": 10_000}  # rows, at most
COMPARED = 2_000_000  # rows, at most: the comparison has all of them in memory
PACKAGES = ["rensa==0.5.0", "datasketch==2.0.0", "datatrove[io,processing]==0.10.1", "spacy"]


def main() -> None:
    """Make the rows, run every side in a process of its own, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--data", default=os.environ.get("PROVENDER_DATA"), help="folder of local data sets")
    parser.add_argument("--only", choices=["ours", "peers", "truth", "growth", *PEERS])
    parser.add_argument("--work", help="keep the rows and the peers' environment in this folder, and use them again")
    chosen = parser.parse_args()
    rows = 20_000 if chosen.quick else chosen.rows
    if chosen.only in (None, "truth") and rows <= COMPARED:
        truth(chosen.data)
    if chosen.only == "truth":
        return
    with contextlib.ExitStack() as stack:
        name = chosen.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="provender-minhash-"))
        if chosen.only == "growth" or rows > COMPARED:
            growth(Path(name), rows, chosen.data)
            return
        made = rows_in(Path(name), rows, chosen.data)
        print(
            f"{rows:,} rows, {made['words']:,} words, {made['near']:,} planted near-duplicates "
            f"({made['alike']:,} of them at or above {THRESHOLD} of their original); {os.cpu_count()} cores"
        )
        heads = (
            ("rows", 10),
            ("wall s", 9),
            ("cpu s", 9),
            ("rows/s", 10),
            ("x", 8),
            ("x cpu", 8),
            ("peak MiB", 10),
            ("dropped", 10),
        )
        print(f"{'':38}{''.join(f'{head:>{width}}' for head, width in heads)}  recall  rewritten")
        variants: dict[str, tuple[int, dict[str, Any]]] = {"minhash, same parameters": (rows, SAME)}
        if chosen.only in (None, "ours"):
            variants |= {
                "minhash, not verified": (rows, SAME | {"verify": False}),
                "minhash, datatrove's hash family": (rows, SAME | {"hashing": "affine-61"}),
                "minhash, as it ships": (rows, {}),
                f"minhash, {rows // 4:,} rows": (rows // 4, SAME),
            }
        base: tuple[float, float] | None = None
        for label, (count, fields) in variants.items():
            run = apart(ours, name, count, fields)
            base = base or (count / run["wall"], count / run["cpu"])
            report(label, count, run, made, base)
        if chosen.only != "ours":
            python = environment(Path(name) / "peers", PACKAGES)
            for peer, most in PEERS.items():
                if chosen.only in (None, "peers", peer):
                    count = min(rows, most)
                    report(peer, count, peer_run(python, peer, name, count), made, base)


def report(label: str, count: int, run: dict[str, Any], made: dict[str, Any], base: Any) -> None:
    """One line: ratios to the first of our runs; recall among planted pairs at or above the threshold."""
    dropped = np.array(run["dropped"], dtype=np.int64)
    truth_rows = made["alike_rows"][made["alike_rows"] < count]
    recall = np.isin(truth_rows, dropped).mean() if len(truth_rows) else float("nan")
    wrong = np.isin(dropped, made["rewritten_rows"]).sum()
    speed = count / run["wall"]
    ratio = f"{speed / base[0]:8.3f}{count / run['cpu'] / base[1]:8.3f}"
    extra = "".join(f"  {key} {run[key]:.1f} s" for key in ("native", "clusters") if key in run)
    print(
        f"{label:38}{count:10,}{run['wall']:9.2f}{run['cpu']:9.2f}{speed:10,.0f}{ratio}{run['peak_mib']:10,.0f}"
        f"{len(dropped):10,}{recall:8.4f}{wrong:11}{extra}",
        flush=True,
    )


def rows_in(folder: Path, rows: int, data: str | None) -> dict[str, Any]:
    """The rows in a folder, written if they are not there, and what is known about them."""
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / f"rows-{rows}.json"
    if not known.exists():
        made = written(folder / "rows.jsonl", rows, data)
        known.write_text(json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in made.items()}))
    told = json.loads(known.read_text())
    return told | {key: np.array(told[key], dtype=np.int64) for key in ("alike_rows", "rewritten_rows")}


def written(path: Path, rows: int, data: str | None) -> dict[str, Any]:
    """Write the rows; which are planted, and which planted ones lie at or above the threshold of their original."""
    originals = real_rows(data)
    made = copies(originals, rows)
    with path.open("w", encoding="utf-8") as out:
        for text in made.texts:
            out.write(json.dumps({"text": text}) + "\n")
    near = np.flatnonzero(made.near)
    alike = near[similarity_to_original(made, near) >= THRESHOLD]
    words = int(pl.Series(made.texts).str.count_matches(r"\S+").sum())
    rewritten = np.setdiff1d(np.arange(len(originals), rows), near)
    return {"words": words, "near": len(near), "alike": len(alike), "alike_rows": alike, "rewritten_rows": rewritten}


def similarity_to_original(made: Copies, rows: np.ndarray) -> np.ndarray:
    """Jaccard similarity of copies with the text they were made from, by plain sets."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), 20_000):
        part = rows[start : start + 20_000]
        texts = pl.Series([made.texts[i] for i in part] + [made.texts[made.base[i]] for i in part])
        sets = shingles(texts, NGRAM)
        each = [set(sets.hashes[a:b].tolist()) for a, b in zip(sets.first[:-1], sets.first[1:], strict=True)]
        for i in range(len(part)):
            one, other = each[i], each[len(part) + i]
            found[start + i] = len(one & other) / max(1, len(one | other))
    return found


def ours(folder: str, count: int, fields: dict[str, Any]) -> dict[str, Any]:
    """The product's method on a pool of conversations, verdicts and all."""
    texts = pl.scan_ndjson(Path(folder) / "rows.jsonl", schema={"text": pl.String}).head(count).collect()["text"]
    pool = pool_of(texts)
    method = MinHash(on="answer", **fields)
    wall, cpu = time.perf_counter(), time.process_time()
    said = method.judge(pool, using=Using(), rng=np.random.default_rng(0))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    dropped = (said["fate"] == "reject").arg_true().to_list()
    return {"wall": wall, "cpu": cpu, "peak_mib": peak_mib(), "dropped": dropped}


def peer_run(python: Path, peer: str, folder: str, count: int) -> dict[str, Any]:
    """A peer in its own environment."""
    script, out = Path(__file__).with_name("_minhash_peers.py"), Path(folder) / f"{peer}.json"
    numbers = [str(n) for n in (count, NGRAM, PERMUTATIONS, BANDS, THRESHOLD)]
    command = [str(python), str(script), peer, f"{folder}/rows.jsonl", str(out), *numbers]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{peer} failed: {done.stderr[-2000:]}")
    return json.loads(out.read_text(encoding="utf-8"))


def truth(data: str | None) -> None:
    """Pairs found among documents whose near-duplicates are known."""
    folder = Path(data) / "near_dup" if data else None
    if folder is None or not (folder / "plagiarised_articles_1000.parquet").exists():
        print("known near-duplicates: needs --data FOLDER with near_dup/plagiarised_articles_1000.parquet")
        return
    articles = pl.read_parquet(folder / "plagiarised_articles_1000.parquet")
    number = {name: i for i, name in enumerate(articles["doc_id"])}
    pairs = json.loads((folder / "plagiarised_articles_1000_truth.json").read_text(encoding="utf-8"))
    known = {frozenset((number[p["a"]], number[p["b"]])) for p in pairs}
    for fields in ({}, {"ngram": 5}, {"shingle": "chars"}, {"threshold": 0.5}, {"threshold": 0.9}):
        found = pairs_found(articles["text"], fields)
        print(
            f"1,000 articles with 10 plagiarised: {fields or 'as it ships'}: precision {share(found & known, found)}, "
            f"recall {share(found & known, known)}"
        )


def pairs_found(texts: pl.Series, fields: dict[str, Any]) -> set[frozenset[int]]:
    """The repeats with the examples that they name."""
    said = MinHash(on="answer", **fields).judge(pool_of(texts), using=Using(), rng=np.random.default_rng(0))
    repeats = said.with_row_index("row").filter(pl.col("fate") == "reject")
    homes = [int(json.loads(proof)["repeats"], 16) for proof in repeats["evidence"]]
    return {frozenset(pair) for pair in zip(repeats["row"].to_list(), homes, strict=True)}


def share(some: Sequence[Any] | set[Any], of: Sequence[Any] | set[Any]) -> str:
    """``10 of 10``."""
    return f"{len(some)} of {len(of)}"


def apart(work: Any, *arguments: Any) -> dict[str, Any]:
    """The result of the work in a fresh process, with that process's own memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


if __name__ == "__main__":
    main()
