"""How long `trace`, `show`, `rows` and `diff` take on a large store: synthetic rows through twelve stages of real commits.

    python benchmarks/trace.py                      # 1,000,000 examples, about three minutes to build
    python benchmarks/trace.py --rows 100000 --json

Stages: ingest, dedup, eight filters with full-precision scores, decontaminate, rank, select, publish (14 versions).
Timed per call with a new Store and Reader, so nothing of ours is remembered; the page cache of the machine is warm unless
``--drop-caches`` may empty it. `fresh process` is `provender trace` as a person starts it, imports included.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from schemas.examples import EXAMPLES, MESSAGES  # noqa: E402
from schemas.lineage import DatasetRef, Rule, Step  # noqa: E402
from storage.questions import figures  # noqa: E402
from storage.questions.diff import diff  # noqa: E402
from storage.questions.rows import rows  # noqa: E402
from storage.questions.show import show  # noqa: E402
from storage.questions.trace import trace  # noqa: E402
from storage.store import Store  # noqa: E402

BATCH = 100_000
WORDS = np.array(
    ["the", "of", "model", "data", "answer", "write", "list", "sort", "town", "river", "blue", "seven", "explain"]
)


def build(folder: Path, count: int) -> DatasetRef:
    """The store; the ref of its published version."""
    store, rng = Store.open(folder), np.random.default_rng(1)
    draft = store.draft(Step(stage="ingest", method={"source": "synthetic-bench", "rows": count}))
    texts = [" ".join(words) for words in rng.choice(WORDS, (2000, 30))]
    for start in range(0, count, BATCH):
        draft.put("examples", examples(rng, texts, start, min(BATCH, count - start)))
    draft.homes = [draft.step.output]
    pool = store.commit(draft).ref
    pool = judge(
        store, pool, "dedup", {"method": "exact"}, rng, share=0.02, rule=Rule(name="repeats", says="stands earlier")
    )
    for i in range(8):
        rule = Rule(name=f"rule-{i}", says="the score is low", threshold=0.03, direction="keep-above")
        pool = judge(store, pool, "filter", {"method": f"score-{i}"}, rng, share=0.03, rule=rule)
    rule = Rule(name="benchmark-match", says="shares text with a test item", threshold=0.999, direction="keep-below")
    pool = judge(store, pool, "decontaminate", {"method": "ngram"}, rng, share=0.001, rule=rule)
    ranked = store.draft(Step(stage="rank", method={"method": "ifd"}, inputs=(("pool", pool),)))
    ranked.keep_members(store.describe(pool))
    ranked.put("scores", pl.DataFrame({"score": rng.random(store.describe(pool).counts.rows_out)}))
    ranking = store.commit(ranked).ref
    rule = Rule(name="below-budget", says="outside the budget", threshold=0.5, direction="keep-above")
    chosen = judge(store, pool, "select", {"method": "top"}, rng, share=0.5, rule=rule, ranking=ranking)
    first = publish(store, pool, "everything")
    store.tag("bench-all", first)
    last = publish(store, chosen, "chosen")
    store.tag("bench", last)
    return last


def examples(rng: np.random.Generator, texts: list[str], start: int, count: int) -> pl.DataFrame:
    ids = [bytes(row) for row in rng.integers(0, 256, (count, 16), dtype=np.uint8)]
    turns = [
        [
            {"role": "user", "content": f"{texts[(start + i) % 2000]} {start + i}", "extra": None},
            {"role": "assistant", "content": texts[(start + 7 * i) % 2000], "extra": None},
        ]
        for i in range(count)
    ]
    frame = pl.DataFrame({"id": ids, "content_hash": ids, "messages": turns}, schema_overrides={"messages": MESSAGES})
    return frame.with_columns(
        source=pl.lit("bench-") + (pl.int_range(count) % 5).cast(pl.String),
        tools=pl.lit(None, pl.String),
        worse=pl.lit(None, MESSAGES),
        license=pl.lit("CC0-1.0"),
        synthetic_depth=pl.lit(0, pl.UInt8),
        extra=pl.lit(None, pl.String),
    ).select(*EXAMPLES)


def judge(
    store: Store,
    pool: DatasetRef,
    stage: str,
    method: dict[str, Any],
    rng: np.random.Generator,
    *,
    share: float,
    rule: Rule,
    ranking: DatasetRef | None = None,
) -> DatasetRef:
    inputs = (("pool", pool), *([("ranking", ranking)] if ranking else []))
    draft = store.draft(Step(stage=stage, method=method, inputs=inputs))
    positions = store.positions(pool)
    scores = rng.random(positions.height, dtype=np.float32)
    drops = scores > 1 - share if rule.direction == "keep-below" else scores < share
    draft.homes, draft.rules = list(store.describe(pool).homes), [rule]
    draft.put(
        "verdicts/pool",
        pl.DataFrame({"fate": drops.astype(np.uint8), "rule": drops.astype(np.uint16), "score": scores}),
    )
    draft.put("members", positions.filter(pl.Series(~drops)))
    return store.commit(draft).ref


def publish(store: Store, pool: DatasetRef, what: str) -> DatasetRef:
    draft = store.draft(Step(stage="publish", method={"declared": {}, "what": what}, inputs=(("pool", pool),)))
    draft.keep_members(store.describe(pool))
    ids, at = [], 0
    for batch in store.batches(pool, BATCH):
        numbered = batch.with_row_index("position", at)
        draft.put("train", numbered.select("id", "messages", "tools", "worse", "source", "license", "position"))
        ids.append(numbered.select("id", "position"))
        at += batch.height
    draft.put("index", pl.concat(ids).sort("id", "position"))
    return store.commit(draft).ref


def timed(work: Callable[[], Any], times: int) -> dict[str, float]:
    """Seconds: median, 95th percentile, worst."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    took.sort()
    return {"p50": statistics.median(took), "p95": took[min(len(took) - 1, int(len(took) * 0.95))], "worst": took[-1]}


def measure(folder: Path, times: int) -> dict[str, Any]:
    """Every figure of this benchmark."""
    rng = np.random.default_rng(2)
    store = Store.open(folder)
    last = store.resolve("bench")
    steps = store.upstream(last)
    kept = store.part(last, "index")["id"]
    homes = store.part(steps[0].ref, "examples")["id"]
    gone = homes.filter(~homes.is_in(kept.implode()))

    def one(ids: pl.Series, digits: int = 32) -> Callable[[], Any]:
        return lambda: trace(Store.open(folder), ids[int(rng.integers(ids.len()))].hex()[:digits])

    def page() -> Any:
        figures.memory.clear()
        return show(Store.open(folder), "bench")

    clear = next(m.ref for m in reversed(steps) if m.ref.stage == "filter")
    script = "import sys; from storage.store import Store; from storage.questions.trace import trace; "
    script += "trace(Store.open(sys.argv[1]), sys.argv[2])"

    def fresh() -> None:
        example = gone[int(rng.integers(gone.len()))].hex()
        subprocess.run([sys.executable, "-c", script, str(folder), example], check=True, cwd=ROOT)

    found: dict[str, Any] = {
        "trace kept": timed(one(kept), times),
        "trace dropped": timed(one(gone), times),
        "trace dropped, 12 digits": timed(one(gone, 12), times),
        "trace, fresh process": timed(fresh, max(3, times // 10)),
        "show, first time": timed(page, max(3, times // 10)),
        "show, again": timed(lambda: show(Store.open(folder), "bench"), max(3, times // 10)),
        "rows, page": timed(
            lambda: rows(Store.open(folder), "bench", start=int(rng.integers(1000))), max(3, times // 5)
        ),
        "rows dropped, nearest first": timed(
            lambda: rows(Store.open(folder), clear, fate="reject", order="margin"), max(3, times // 5)
        ),
        "diff of two published versions": timed(lambda: diff(Store.open(folder), "bench-all", "bench"), 3),
    }
    found["versions"], found["rows"] = len(steps), homes.len()
    found["store_bytes"] = sum(path.stat().st_size for path in (folder / "objects").rglob("*") if path.is_file())
    lineage_names = ("verdicts/pool", "members", "scores")
    lineage = {p.sha256: p.size_bytes for m in steps for n in lineage_names for p in m.parts.get(n, ())}
    found["lineage_bytes_per_row"] = sum(lineage.values()) / homes.len()
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=40, help="calls per figure")
    parser.add_argument("--store", type=Path, help="keep the store here, and use it if it is there")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.store or Path(temporary) / "store"
        began = time.perf_counter()
        if not folder.exists():
            build(folder, asked.rows)
        built = time.perf_counter() - began
        found = measure(folder, asked.times)
    found["build_seconds"] = built
    if asked.json:
        print(json.dumps(found))
        return
    print(f"{found['rows']:,} examples, {found['versions']} versions, built in {built:.0f} s, "
          f"{found['store_bytes'] / 2**20:.0f} MiB, lineage {found['lineage_bytes_per_row']:.1f} bytes per source row, "
          f"peak {found['peak_mib']:.0f} MiB")  # fmt: skip
    for name, figure in found.items():
        if isinstance(figure, dict):
            told = "   ".join(f"{key} {1000 * value:7.1f} ms" for key, value in figure.items())
            print(f"{name:<34} {told}")


if __name__ == "__main__":
    main()
