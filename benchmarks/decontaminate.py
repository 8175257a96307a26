"""Decontamination of a million examples against all shipped packs: speed, memory, growth, datatrove beside it, recall.

Parts (``--only``): ``speed`` every word rule over the rows, ``stage`` the whole stage out of and into the store, ``peer``
datatrove's n-gram filter on a part of the same rows at the same rule, ``growth`` ten times the rows, ``leaks`` recall and
false flags on planted and real contamination, ``rephrased`` what weighted words, embeddings and a judge add. Each measured
in a process of its own. Ratios are of processor time (all threads), which a busy machine does not stretch; wall time stands
beside it. With ``--work FOLDER`` the rows and every finished figure are kept: the same command, given again, goes on.
Usage: `python -m benchmarks.decontaminate [--rows 1000000] [--only PART] [--data FOLDER] [--work FOLDER] [--quick]`.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import _decon_leaks
from benchmarks._decon_rows import LEAK_EVERY, data_folder, items, read_shards, write_shards
from benchmarks._kept import Kept
from benchmarks._machine import peak_mib
from methods.conversation import content_at
from methods.decontaminate.any_ngram import AnyNgram
from methods.decontaminate.exact import Exact
from methods.decontaminate.idf_overlap import IdfOverlap
from methods.decontaminate.ngram_coverage import NgramCoverage
from methods.decontaminate.tf_idf import TfIdf
from methods.parallel import cores, in_order
from methods.texts.matching import PairMethod
from schemas.method import Using
from storage.packs.shelf import load_pack, packs

RULES: dict[str, PairMethod] = {
    "ngram-coverage": NgramCoverage(),
    "any-ngram": AnyNgram(),
    "exact": Exact(),
    "idf-overlap": IdfOverlap(),
    "tf-idf": TfIdf(),
}
#: Compares every turn with every item: over a part of the rows.
SLOW = {"tf-idf": 20}
#: datatrove's rule in our words: any n-gram of any prompt or answer, in any turn, boilerplate or not.
SAME_RULE = AnyNgram(n=13, max_df=10**9, everywhere=True, min_answer_words=1, min_words=13)
PARTS = ("speed", "stage", "peer", "growth", "leaks", "rephrased")


def main() -> None:
    """Make the rows, run the parts, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peer-rows", type=int, default=20_000)
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable; all parts if absent")
    parser.add_argument("--data", help="folder of local data (or PROVENDER_DATA): more real rows, contamination sets")
    parser.add_argument("--quick", action="store_true", help="20,000 rows, 2,000 of them for the peer")
    parser.add_argument("--work", type=Path, help="keep the rows and finished figures here, and go on from them")
    chosen = parser.parse_args()
    rows, peer_rows = (20_000, 2_000) if chosen.quick else (chosen.rows, chosen.peer_rows)
    parts, data = chosen.only or PARTS, data_folder(chosen.data)
    kept = Kept(chosen.work)
    with contextlib.ExitStack() as stack:
        folder = chosen.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="provender-bench-")))
        if set(parts) & {"speed", "stage", "peer", "growth"}:
            made = min(rows, 200_000) if set(parts) == {"growth"} else rows  # growth reads the shards again and again
            kept.part(f"{made} rows", lambda: shards(folder, made, data))
            folder = folder / f"rows-{made}"
        if "speed" in parts:
            for name in RULES:
                kept.part(f"speed {name} {rows}", lambda name=name: speed(folder, rows, name))
        for part in ("stage", "growth"):
            if part in parts:
                kept.part(f"{part} {rows}", lambda part=part: {"stage": stage, "growth": growth}[part](folder, rows))
        if "peer" in parts:
            kept.part(f"peer {peer_rows}", lambda: peer(folder, peer_rows))
    for part in ("leaks", "rephrased"):
        if part in parts:
            getattr(_decon_leaks, part)(data, kept, quick=chosen.quick)


def shards(folder: Path, rows: int, data: Path | None) -> None:
    """Write the rows, and say what they are."""
    place = folder / f"rows-{rows}"
    place.mkdir(parents=True, exist_ok=True)
    words = write_shards(place, rows, data)
    known = f"{sum(p.items for p in packs().values()):,} items of {len(packs())} packs, {cores()} cores"
    print(f"{rows:,} examples, {words:,} words ({words / rows:.0f} each), {known}")


def speed(folder: Path, rows: int, name: str) -> None:
    """A rule as it ships, on one thread and, the default rule, on all."""
    count = rows // SLOW.get(name, 1)
    leaked = set(range(0, count, LEAK_EVERY))
    heads = (
        ("rows", 11),
        ("threads", 9),
        ("cpu s", 9),
        ("wall s", 9),
        ("index s", 9),
        ("examples/cpu s", 16),
        ("peak MiB", 10),
    )
    if name == next(iter(RULES)):
        print(f"{'rule':16}{''.join(f'{head:>{width}}' for head, width in heads)}{'leaks':>14}{'others':>8}")
    for threads in (1, cores()) if name == "ngram-coverage" else (1,):
        run = apart(with_method, name, str(folder), count, threads)
        flagged = set(run["flagged"])
        print(
            f"{name:16}{count:11,}{threads:9}{run['cpu']:9.1f}{run['wall']:9.1f}{run['index_cpu']:9.2f}"
            f"{count / run['cpu']:16,.0f}{run['peak_mib']:10,.0f}"
            f"{f'{len(flagged & leaked)}/{len(leaked)}':>14}{len(flagged - leaked):8}",
            flush=True,
        )


def stage(folder: Path, rows: int) -> None:
    """The stage as a user runs it: out of the store, verdicts and pairs durable in the store."""
    run = apart(with_store, str(folder), rows)
    print(
        f"the stage in the store: {run['wall']:.1f} s, {run['cpu']:.1f} cpu s, {rows / run['cpu']:,.0f} examples/cpu s, "
        f"peak {run['peak_mib']:,.0f} MiB, {run['dropped']:,} dropped"
    )


def growth(folder: Path, rows: int) -> None:
    """One and ten times the rows, streamed."""
    one, ten = (apart(with_method, "ngram-coverage", str(folder), n * rows, cores()) for n in (1, 10))
    print(
        f"growth, {cores()} threads: {rows:,} {one['wall']:.1f} s ({one['cpu']:.1f} cpu), peak {one['peak_mib']:,.0f} MiB; "
        f"{10 * rows:,} {ten['wall']:.1f} s ({ten['cpu']:.1f} cpu), peak {ten['peak_mib']:,.0f} MiB: "
        f"{ten['wall'] / one['wall']:.1f} x the time, {ten['cpu'] / one['cpu']:.1f} x the cpu"
    )


def peer(folder: Path, rows: int) -> None:
    """Datatrove on the first rows, ours at the same rule and as it ships on the same ones."""
    texts = first_texts(folder, rows)
    index = items()
    wanted = [text for text in (*index["prompt"], *index["answer"]) if text]
    theirs = with_datatrove(texts, wanted, SAME_RULE.n)
    ours = {name: apart(with_method, name, str(folder), rows, 1) for name in ("same rule", "ngram-coverage")}
    print(f"the first {rows:,} rows, one core:")
    print(f"{'':30}{'cpu s':>9}{'index s':>9}{'examples/cpu s':>16}{'x datatrove':>13}{'peak MiB':>10}{'flagged':>9}")
    table = {"datatrove 13-grams": theirs, "any-ngram, same rule": ours["same rule"]}
    for name, run in (table | {"ngram-coverage, as it ships": ours["ngram-coverage"]}).items():
        print(
            f"{name:30}{run['cpu']:9.2f}{run['index_cpu']:9.2f}{rows / run['cpu']:16,.0f}"
            f"{theirs['cpu'] / run['cpu']:13.1f}{run['peak_mib']:10,.0f}{len(run['flagged']):9,}"
        )
    a, b = set(ours["same rule"]["flagged"]), set(theirs["flagged"])
    print(
        f"same rule, judged differently: {len(a - b)} by ours only, {len(b - a)} by datatrove only (it writes every "
        "number as 0 and joins question and answer); peak memory of datatrove includes all its rows"
    )


def apart(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The result of the work in a fresh process, with that process's own peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def with_method(name: str, folder: str, rows: int, threads: int) -> dict[str, Any]:
    """A method over the shards, batch by batch."""
    method = SAME_RULE if name == "same rule" else RULES[name]
    benchmarks = {n: load_pack(n).items for n in packs()}
    start = time.process_time()
    judge = method.judge_batches(benchmarks, Using())
    index_cpu = time.process_time() - start
    flagged: list[int] = []
    cpu, wall, done = time.process_time(), time.perf_counter(), 0
    for said, _ in in_order(judge, read_shards(Path(folder), rows), threads):
        flagged += (np.flatnonzero(said["fate"].to_numpy() == "reject") + done).tolist() if done < 1_000_000 else []
        done += said.height
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "index_cpu": index_cpu, "peak_mib": peak_mib(), "flagged": flagged}


def with_store(folder: str, rows: int) -> dict[str, Any]:
    """The stage over a committed version of the rows."""
    from schemas.lineage import Step
    from schemas.recipe import BackendChoices
    from storage.store import Store
    from tasks.adhoc import adhoc_bench
    from tasks.decontaminate import decontaminate_examples

    place = Path(folder) / "store"
    store = Store.open(place)
    draft = store.draft(Step(stage="ingest", method={"stage": "ingest", "version": 1, "source": "bench"}))
    for frame in read_shards(Path(folder), rows):
        draft.put("examples", frame)
    draft.homes = [draft.step.output]
    pool = store.commit(draft).ref
    bench = adhoc_bench(place, BackendChoices())
    cpu, wall = time.process_time(), time.perf_counter()
    done = decontaminate_examples(pool, tuple(packs()), NgramCoverage(), bench)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    dropped = sum(i.rejected for i in store.describe(done).counts.inputs)
    return {"cpu": cpu, "wall": wall, "peak_mib": peak_mib(), "dropped": dropped}


def first_texts(folder: Path, rows: int) -> list[str]:
    """Question and answer of the first rows, as one text each."""
    found: list[str] = []
    for frame in read_shards(folder, rows):
        both = pl.concat_str(content_at(0), content_at(1), separator="\n")
        found += frame.select(both.alias("t"))["t"].to_list()
    return found


def with_datatrove(texts: list[str], wanted: list[str], n: int) -> dict[str, Any]:
    """Datatrove's filter in an environment that is made for it here and thrown away."""
    with tempfile.TemporaryDirectory(prefix="provender-peer-") as name:
        place = Path(name)
        python = place / "env" / "bin" / "python"
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([str(uv), "venv", "-q", str(place / "env")], check=True)
        packages = ["datatrove==0.10.1", "spacy", "xxhash<4", "regex"]
        subprocess.run([str(uv), "pip", "install", "-q", "--python", str(python), *packages], check=True)
        job = {"n": n, "items": wanted, "rows": texts, "index": str(place / "index")}
        (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
        script = Path(__file__).with_name("_decon_peer.py")
        environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [str(python), str(script), str(place / "job.json")], stdout=subprocess.PIPE, env=environment, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
