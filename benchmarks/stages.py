"""What does a row cost in each stage? Processor time, memory and disk per row on one core: the input of docs/scale.md.

``python -m benchmarks stages [--rows N N] [--words N]``: the same recipe over two sizes of one pool (shipped rows multiplied
with edits; with ``--words`` each answer goes on with those of other rows until the row has so many; with ``--copies`` real
rows and copies of them with words replaced, as the dedup benchmarks make them, from ``--data`` too where it is given), each
step in a fresh process with one thread. Slopes between the two sizes are printed, so that imports and what
does not grow with the rows drop out. Memory that a step holds per row says how far it reaches on one machine: all of it,
and what is the process's own (*anonymous*; the rest is pages of files, which the system takes back when it needs the room).
``--phases`` prints the most of it while each part of a step was told of. Methods that embed do so with the `static`
embedder (256 numbers a text), each from an empty cache of vectors; ``rank rds-plus`` aims at 64 of the shipped rows,
``select k-center`` keeps 1,000 examples; ``--clusters`` is semantic dedup's, ``--on`` what dedup compares, ``--bound`` what an
array may take before it lies in a file. ``--work FOLDER`` keeps the rows and their stores, which are ingested once.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks._dedup_growth import SHARD, write_shards
from benchmarks._machine import Watch, peak_mib
from benchmarks.ingest import DATA, make_rows

ONE_CORE = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}

#: Steps in order, each over the result of the one it names.
STEPS = (
    ("ingest", ""), ("gather", "ingest"), ("dedup exact", "gather"), ("dedup minhash", "gather"),
    ("dedup semantic", "gather"), ("rank rds-plus", "gather"), ("select k-center", "gather"),
    ("filter heuristics", "gather"), ("filter language", "gather"), ("decontaminate ngram-coverage", "gather"),
    ("rank length", "gather"), ("select top", "gather"), ("mix temperature", "gather"), ("publish", "gather"),
)  # fmt: skip


def made(step: str, rows: int, folder: Path, inputs: dict[str, str], clusters: int, on: str) -> str:
    """Run one step over a stored pool; the ref of its result."""
    from schemas.lineage import DatasetRef
    from schemas.recipe import BackendChoices, Decontamination
    from schemas.sources import SourceSpec
    from tasks.bench import Bench
    from tasks.decontaminate import Policy, decontaminate_examples
    from tasks.gather import gather
    from tasks.ingest import ingest
    from tasks.judge import dedup_examples, filter_examples
    from tasks.mix import mix_sources
    from tasks.publish import publish
    from tasks.rank import rank_examples
    from tasks.select import select_examples

    bench = Bench(store=folder / "store", backends=BackendChoices.model_validate({"embed": {"backend": "static"}}))
    stage, _, method = step.partition(" ")
    if stage == "ingest":
        return str(ingest("bench", SourceSpec(path=str(folder / "rows.jsonl"), license="Apache-2.0"), bench))
    if stage == "gather":
        return str(gather({"bench": DatasetRef.parse(inputs["ingest"])}, bench))
    pool = DatasetRef.parse(inputs["gather"])
    match stage:
        case "dedup":
            fields = {"on": on} | ({"clusters": clusters} if method == "semantic" else {})
            return str(dedup_examples(pool, _method("dedup", {"method": method, **fields}), bench))
        case "filter":
            return str(filter_examples(pool, _method("filter", {"method": method}), bench))
        case "decontaminate":
            by = _method("decontaminate", {"method": method})
            return str(decontaminate_examples(pool, ("gsm8k", "mmlu"), by, bench, Policy(max_source_overlap=None)))
        case "rank":
            target = None
            if method == "rds-plus":
                aim = SourceSpec(path=str(folder / "target.jsonl"), license="Apache-2.0")
                target = ingest("aim", aim, bench)
            return str(rank_examples(pool, target, _method("rank", {"method": method}), bench))
        case "select":
            cut = _method("select", {"method": method, "keep_examples": 1000 if method == "k-center" else rows // 2})
            ranking = DatasetRef.parse(inputs["rank length"]) if cut.ranked else None
            return str(select_examples(pool, ranking, cut, bench))
        case "mix":
            blend = _method("mix", {"method": method, "total_examples": rows // 2})
            return str(mix_sources(pool, blend, bench))
        case _:
            gate = Decontamination.model_validate({"benchmarks": ["gsm8k"], "by": {"method": "ngram-coverage"}})
            return str(publish("bench", pool, gate, bench, {}))


def _method(stage: str, fields: dict[str, Any]) -> Any:
    """A stage's method from its fields."""
    import importlib

    from pydantic import TypeAdapter

    union: Any = getattr(importlib.import_module(f"methods.{stage}"), f"Any{stage.capitalize()}")
    return TypeAdapter(union).validate_python(fields)


def long_rows(path: Path, rows: int, words: int) -> None:
    """As `make_rows`, with answers that go on until question and answer have so many words together."""
    real = [json.loads(line) for line in (DATA / "permissive_instructions.jsonl").read_text().splitlines()]
    base: list[dict[str, str]] = []
    for number, row in enumerate(real):
        answer, after = row["output"], number
        while len(f"{row['instruction']} {row['input']} {answer}".split()) < words:
            after += 1
            answer += " " + real[after % len(real)]["output"]
        base.append({"instruction": row["instruction"], "input": row["input"], "output": answer})
    frame = pl.DataFrame(base)
    with path.open("wb") as sink:
        for start in range(0, rows, frame.height):
            batch = frame.head(min(rows - start, frame.height)).with_row_index("i", offset=start)
            batch.select(
                pl.format("{} (variant {})", "instruction", "i").alias("instruction"),
                "input",
                pl.format("{} [{}]", "output", "i").alias("output"),
            ).write_ndjson(sink)


def copied_rows(path: Path, rows: int, data: str | None) -> None:
    """As the dedup benchmarks make them: real rows, then copies, one in five near; the first line is the instruction."""
    write_shards(path.parent / "shards", rows, data)
    with path.open("wb") as sink:
        for start in range(0, rows, SHARD):
            texts = pl.read_parquet(path.parent / "shards" / f"{start:010d}.parquet").head(rows - start)["text"]
            asked = texts.str.extract(r"^([^\n]*)").fill_null("")
            answer = texts.str.slice(asked.str.len_chars() + 1)
            pl.DataFrame({"instruction": asked, "input": "", "output": answer}).write_ndjson(sink)


def in_child(step: str, folder: Path, **work: Any) -> dict[str, Any]:
    """One step in a fresh process on one core: seconds, peak memory, bytes that the store grew by, ref."""
    for cache in (folder / "store").glob("vectors.sqlite*"):  # no step is to find what another has embedded
        cache.unlink()
    before = stored(folder)
    asked = json.dumps({"step": step, "folder": str(folder), **work})
    command = [sys.executable, "-m", "benchmarks.stages", "--child", asked]
    done = subprocess.run(command, env=os.environ | ONE_CORE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"stored": stored(folder) - before}


def stored(folder: Path) -> int:
    """Bytes of the store's files."""
    return sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())


def child(asked: str) -> None:
    """What `in_child` starts: the step, watched, and what it took as one line of JSON."""
    from methods import spill
    from tasks.events import Event, listening

    work = json.loads(asked)
    if bound := work.pop("bound"):
        spill.IN_MEMORY = bound << 20
    watch, began = Watch(), time.perf_counter()

    def heard(event: Event) -> None:
        watch.phase = event.note if event.kind == "progress" and event.done < event.total else "the rest"

    with listening(heard):
        ref = made(**work | {"folder": Path(work["folder"])})
    own, used = watch.stop(), resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "ref": ref,
                "wall": time.perf_counter() - began,
                "cpu": used.ru_utime + used.ru_stime,
                "peak": peak_mib() * 2**20,
                "own": own * 2**20,
                "pages": watch.most_file * 2**20,
                "phases": watch.phases,
            }
        )
    )


def main() -> None:
    """Make the rows, run every step on both sizes, print slopes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 300_000])
    parser.add_argument("--words", type=int, default=0, help="least words of a row; 0: the short rows as they are")
    parser.add_argument("--copies", action="store_true", help="real rows and copies with words replaced")
    parser.add_argument("--data", default=os.environ.get("PROVENDER_DATA"), help="folder of local data sets")
    parser.add_argument("--only", nargs="*", default=[], help="steps to run beside the ones they need")
    parser.add_argument("--clusters", type=int, default=0, help="of dedup semantic; 0 compares everything")
    parser.add_argument("--on", default="both", choices=["prompt", "answer", "both"], help="what dedup compares")
    parser.add_argument("--bound", type=int, default=0, help="MiB that an array of a method has in memory (else 512)")
    parser.add_argument("--phases", action="store_true", help="print memory by what a step told of")
    parser.add_argument("--work", help="keep rows and stores in this folder, and use them again")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child)
        return
    print(f"{asked.rows[0]:,} and {asked.rows[1]:,} rows, one core of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")
    found = {rows: measured(rows, asked) for rows in asked.rows}
    told(*asked.rows, found, asked.phases)


def measured(rows: int, asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each step over so many rows: what it took; of a pool that was kept, not ingest and gather."""
    wanted = {*asked.only, "ingest", "gather"} | ({"rank length"} if "select top" in asked.only else set())
    facts: dict[str, dict[str, Any]] = {}
    refs: dict[str, str] = {}

    def run(step: str, folder: Path) -> None:
        facts[step] = in_child(
            step, folder, rows=rows, inputs=refs, clusters=asked.clusters, on=asked.on, bound=asked.bound
        )
        refs[step] = facts[step]["ref"]
        print(f"{rows:,} {step}: {facts[step]['cpu']:.1f} CPU s, {refs[step]}", file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        name = asked.work or stack.enter_context(tempfile.TemporaryDirectory())
        pool = Path(name, f"{rows}-{'copies' if asked.copies else asked.words}")
        known = pool / "refs.json"
        if not known.exists():
            make_pool(pool, rows, asked)
            for step in ("ingest", "gather"):
                run(step, pool)
            known.write_text(json.dumps(refs))
        refs.update(json.loads(known.read_text()))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=name)))
        shutil.copytree(pool, folder, copy_function=os.link, dirs_exist_ok=True)  # a pool's files are never changed
        for step, _ in STEPS:
            if step not in refs and (not asked.only or step in wanted):
                run(step, folder)
        facts["source"] = {"stored": (pool / "rows.jsonl").stat().st_size}
    return facts


def make_pool(folder: Path, rows: int, asked: argparse.Namespace) -> None:
    """The rows and a target, as JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    if asked.copies:
        copied_rows(path, rows, asked.data)
    elif asked.words:
        long_rows(path, rows, asked.words)
    else:
        make_rows(path, rows, spaced=False)
    aims = (DATA / "permissive_instructions.jsonl").read_text().splitlines()[:64]
    (folder / "target.jsonl").write_text("\n".join(aims) + "\n")


def told(small: int, large: int, found: dict[int, dict[str, dict[str, Any]]], phases: bool) -> None:
    """Print the slopes between the two sizes, and the peaks at the larger one."""
    grown = large - small
    print(f"source: {found[large].pop('source')['stored'] / large:.0f} bytes of JSONL a row")
    print(
        f"{'step':30} {'CPU µs/row':>11} {'rows/CPU s':>11} {'memory B/row':>13} {'own B/row':>10} "
        f"{'stored B/row':>13} {'peak MiB':>9} {'own MiB':>8} {'files MiB':>10} {'wall s':>8}"
    )
    for step, b in found[large].items():
        a = found[small][step]
        cpu = (b["cpu"] - a["cpu"]) / grown
        memory, own, kept = ((b[name] - a[name]) / grown for name in ("peak", "own", "stored"))
        print(
            f"{step:30} {1e6 * cpu:11.1f} {1 / cpu if cpu > 0 else float('inf'):11,.0f} {memory:13,.0f} {own:10,.0f} "
            f"{kept:13,.1f} {b['peak'] / 2**20:9,.0f} {b['own'] / 2**20:8,.0f} {b['pages'] / 2**20:10,.0f} {b['wall']:8.1f}"
        )
        for phase in b["phases"] if phases else ():
            few, many = (found[rows][step]["phases"].get(phase, 0.0) for rows in (small, large))
            print(
                f"  {phase or 'before'}: own memory {few:,.0f} and {many:,.0f} MiB, {(many - few) * 2**20 / grown:,.0f} B/row"
            )


if __name__ == "__main__":
    main()
