"""What does a row cost in each stage? Processor time, memory and disk per row on one core: the input of docs/scale.md.

``python -m benchmarks stages [--rows N N] [--words N]``: the same recipe over two sizes of one pool (shipped rows multiplied
with edits; with ``--words`` each answer goes on with those of other rows until the row has so many), each step in a fresh
process with one thread. Slopes between the two sizes are printed, so that imports and what
does not grow with the rows drop out. Memory that a step holds per row says how far it reaches on one machine. Methods that
embed do so with the `static` embedder (256 numbers a text), each from an empty cache of vectors; ``rank rds-plus`` aims at 64
of the shipped rows, ``select k-center`` keeps 1,000 examples.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.ingest import DATA, make_rows

ONE_CORE = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}

#: Steps in order, each over the result of the one it names.
STEPS = (
    ("ingest", ""), ("gather", "ingest"), ("dedup exact", "gather"), ("dedup minhash", "gather"),
    ("dedup semantic", "gather"), ("rank rds-plus", "gather"), ("select k-center", "gather"),
    ("filter heuristics", "gather"), ("filter language", "gather"), ("decontaminate ngram-coverage", "gather"),
    ("rank length", "gather"), ("select top", "gather"), ("mix temperature", "gather"), ("publish", "gather"),
)  # fmt: skip


def made(step: str, rows: int, folder: Path, inputs: dict[str, str]) -> str:
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
            return str(dedup_examples(pool, _method("dedup", {"method": method}), bench))
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


def in_child(step: str, rows: int, folder: Path, inputs: dict[str, str]) -> dict[str, Any]:
    """One step in a fresh process on one core: seconds, peak memory, bytes that the store grew by, ref."""
    for cache in (folder / "store").glob("vectors.sqlite*"):  # no step is to find what another has embedded
        cache.unlink()
    before = stored(folder)
    asked = json.dumps({"step": step, "rows": rows, "folder": str(folder), "inputs": inputs})
    command = [sys.executable, "-m", "benchmarks.stages", "--work", asked]
    done = subprocess.run(command, env=os.environ | ONE_CORE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"stored": stored(folder) - before}


def stored(folder: Path) -> int:
    """Bytes of the store's files."""
    return sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())


def main() -> None:
    """Make the rows, run every step on both sizes, print slopes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 300_000])
    parser.add_argument("--words", type=int, default=0, help="least words of a row; 0: the short rows as they are")
    parser.add_argument("--only", nargs="*", default=[], help="steps to run beside the ones they need")
    parser.add_argument("--work")
    asked = parser.parse_args()
    if asked.work:
        work = json.loads(asked.work)
        began = time.perf_counter()
        ref = made(work["step"], work["rows"], Path(work["folder"]), work["inputs"])
        used = resource.getrusage(resource.RUSAGE_SELF)
        facts = {"ref": ref, "wall": time.perf_counter() - began, "peak": used.ru_maxrss * 1024}
        print(json.dumps(facts | {"cpu": used.ru_utime + used.ru_stime}))
        return
    small, large = asked.rows
    wanted = {*asked.only, "ingest", "gather"} | ({"rank length"} if "select top" in asked.only else set())
    print(f"{small:,} and {large:,} rows, one core of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for rows in (small, large):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if asked.words:
                long_rows(folder / "rows.jsonl", rows, asked.words)
            else:
                make_rows(folder / "rows.jsonl", rows, spaced=False)
            aims = (DATA / "permissive_instructions.jsonl").read_text().splitlines()[:64]
            (folder / "target.jsonl").write_text("\n".join(aims) + "\n")
            facts = found[rows] = {"source": {"stored": (folder / "rows.jsonl").stat().st_size}}
            refs: dict[str, str] = {}
            for step, _ in STEPS:
                if asked.only and step not in wanted:
                    continue
                facts[step] = in_child(step, rows, folder, refs)
                refs[step] = facts[step]["ref"]
                print(f"{rows:,} {step}: {facts[step]['cpu']:.1f} CPU s", file=sys.stderr, flush=True)
    grown = large - small
    print(f"source: {found[large]['source']['stored'] / large:.0f} bytes of JSONL a row")
    print(
        f"{'step':30} {'CPU µs/row':>11} {'rows/CPU s':>11} {'memory B/row':>13} {'stored B/row':>13} {'peak MiB':>9}"
    )
    for step in found[large]:
        if step == "source":
            continue
        a, b = found[small][step], found[large][step]
        cpu = (b["cpu"] - a["cpu"]) / grown
        memory, kept = (b["peak"] - a["peak"]) / grown, (b["stored"] - a["stored"]) / grown
        print(
            f"{step:30} {1e6 * cpu:11.1f} {1 / cpu if cpu > 0 else float('inf'):11,.0f} {memory:13,.0f} {kept:13,.1f} "
            f"{b['peak'] / 2**20:9,.0f}"
        )


if __name__ == "__main__":
    main()
