"""How fast do rows become a dataset version? Against polars copying the same rows from JSONL to Parquet, same run.

``python -m benchmarks.ingest [--rows N]``: multiplies the shipped real rows with edits to N JSONL lines, then in child
processes, alternating: (a) ``polars.scan_ndjson → sink_parquet``; (b) source digest, read, shape, content hash, id and
commit to a store, invariants included. Prints examples/s, peak RSS and the ratio of the best times.
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

DATA = Path(__file__).parent.parent / "recipes" / "data"


def make_rows(path: Path, rows: int, *, spaced: bool) -> None:
    """Real instructions, each copy with a number of its own in instruction and output, as JSONL."""
    real = [json.loads(line) for line in (DATA / "permissive_instructions.jsonl").read_text().splitlines()]
    base = pl.DataFrame(real)
    with path.open("wb") as sink:
        for start in range(0, rows, 100 * base.height):
            count = min(rows - start, 100 * base.height)
            batch = pl.concat([base] * -(-count // base.height)).head(count).with_row_index("i", offset=start)
            edited = batch.select(
                pl.format("{} (variant {})", "instruction", "i").alias("instruction"),
                "input",
                pl.format("{} [{}]", "output", "i").alias("output"),
            )
            if spaced:
                sink.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in edited.to_dicts())
            else:
                edited.write_ndjson(sink)


def plain_copy(path: Path, out: Path) -> dict[str, Any]:
    """What polars needs to read the same lines and write them as Parquet."""
    start = time.perf_counter()
    pl.scan_ndjson(path).sink_parquet(out / "copy.parquet")
    return {"seconds": time.perf_counter() - start}


def ingest(path: Path, out: Path) -> dict[str, Any]:
    """From the source to a committed version, as the ingest step does it."""
    from schemas.lineage import Step
    from schemas.sources import SourceSpec
    from storage.ingest import Ingester
    from storage.readers import source_digest
    from storage.readers.ahead import ahead
    from storage.store import Store
    from tasks.figures import Figures
    from tasks.ingest import identified

    start = time.perf_counter()
    spec = SourceSpec(path=str(path), license="Apache-2.0")
    store = Store.open(out / "store")
    content = {"sha256": source_digest(spec)}
    digested = time.perf_counter()
    draft = store.draft(Step(stage="ingest", method=spec.identity(), content=content))
    draft.homes = [draft.step.output]
    figures = Figures()
    for rows, _ in ahead(identified(spec, "bench", Ingester("bench"))):
        draft.put("examples", rows)
        figures.add(rows)
    draft.summary.update(figures.summary())
    before = time.perf_counter()
    manifest = store.commit(draft)
    end = time.perf_counter()
    parts = {"digest": digested - start, "read, identify, write": before - digested, "commit": end - before}
    return {"seconds": end - start, "rows": manifest.counts.rows_out, "parts": parts}


WORK = {"copy": plain_copy, "ingest": ingest}


def in_child(work: str, path: Path) -> dict[str, Any]:
    """Run one of ``WORK`` in a fresh process; adds its peak RSS."""
    with tempfile.TemporaryDirectory(dir=path.parent) as out:
        command = [sys.executable, "-m", "benchmarks.ingest", "--work", work, "--path", str(path), "--out", out]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Make the rows, run both, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spaced", action="store_true", help="lines as json.dumps writes them by default, with spaces")
    parser.add_argument("--work", choices=WORK)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.work:
        facts = WORK[asked.work](asked.path, asked.out)
        used = resource.getrusage(resource.RUSAGE_SELF)
        facts |= {"peak_mib": used.ru_maxrss / 1024, "cpu_seconds": used.ru_utime + used.ru_stime}
        print(json.dumps(facts))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        make_rows(path, asked.rows, spaced=asked.spaced)
        size = path.stat().st_size
        print(
            f"{asked.rows:,} rows, {size / 1e6:.0f} MB of JSONL, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        runs = {work: [in_child(work, path) for _ in range(1)] for work in WORK}
        for _ in range(asked.repeats - 1):
            for work in WORK:
                runs[work].append(in_child(work, path))
    best = {work: min(facts["seconds"] for facts in runs[work]) for work in WORK}
    for work in WORK:
        peak = max(facts["peak_mib"] for facts in runs[work])
        cpu = min(facts["cpu_seconds"] for facts in runs[work])
        times = " ".join(f"{facts['seconds']:.2f}" for facts in runs[work])
        speed = f"{asked.rows / best[work]:12,.0f} examples/s"
        print(f"{work:7} {speed}   best {best[work]:.2f} s of {times}   cpu {cpu:.2f} s   peak {peak:.0f} MiB")
    fastest = min(runs["ingest"], key=lambda facts: facts["seconds"])
    print("        of which " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in fastest["parts"].items()))
    print(f"ratio   {best['ingest'] / best['copy']:.2f} (aim: at most 4), rows committed {fastest['rows']:,}")


if __name__ == "__main__":
    main()
