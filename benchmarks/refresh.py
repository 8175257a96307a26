"""What does a refresh cost when a source has grown by 1 %? Calls and seconds against the full run.

A recipe with the real embedded model (self-instruct from seeds, CLEAR, IFD) runs over N real rows, then over the same
file with 1 % more rows at its end and with one row changed in the middle. Calls that are answered from the cache cost
nothing; what is recomputed is the arithmetic of each step. The baseline is the full run over the grown file in a new store.

    python -m benchmarks.refresh [--rows 400]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from cli.console import quiet_environment

RECIPE = """
name: growing
rng_seed: 0
sources:
  rows: {path: rows.jsonl, license: Apache-2.0}
  seeds: {path: %(seeds)s, role: seeds}
generate:
  - name: synthetic
    seeds: seeds
    by:                                      # as in the quickstart: short series and answers, for a model this small
      {method: self-instruct, examples: 12, max_candidates: 200, instances: answer, shown_words: 25, cut_off: drop-last,
       series: {max_tokens: 120, temperature: 0.7, top_p: 0.5, presence_penalty: 2.0, stop: ["\\n\\n"]},
       answer: {max_tokens: 64}}
dedup: {method: exact}
filter:
  - {method: heuristics}
  - {method: clear, samples: 2, threshold: {value: 0.2}, draw: {max_tokens: 24, temperature: 0.7}}
decontaminate: {benchmarks: [gsm8k], by: {method: ngram-coverage}}
rank: {method: ifd}
select: {method: top, keep_fraction: 0.5}
backends:
  llm: {backend: transformers, model: sprout}
  embed: {backend: static}
"""


def main() -> None:
    """Full run, grown run, grown run from nothing; a line each."""
    quiet_environment()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    rows = parser.parse_args().rows
    data = Path(__file__).resolve().parent.parent / "recipes" / "data"
    lines = (data / "permissive_instructions.jsonl").read_text("utf-8").splitlines()
    more = max(1, rows // 100)
    changed = json.loads(lines[rows // 2])
    changed["output"] = "Quite another answer, written since the last run."
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "recipe.yaml").write_text(RECIPE % {"seeds": data / "seed_tasks.jsonl"}, "utf-8")
        full = _run(home, lines[:rows], "store")
        same = _run(home, lines[:rows], "store")
        grown_lines = [*lines[: rows // 2], json.dumps(changed), *lines[rows // 2 + 1 : rows + more]]
        grown = _run(home, grown_lines, "store")
        fresh = _run(home, grown_lines, "other")
    print(f"cores {os.cpu_count()}; {rows} rows, then {more} more and 1 changed ({(more + 1) / rows:.1%} new)")
    for name, one in (
        ("full run", full),
        ("same again", same),
        ("after growth", grown),
        ("grown, from nothing", fresh),
    ):
        print(
            f"{name:20} {one['paid']:6} calls paid  {one['seconds']:7.1f} s   "
            f"calls {one['paid'] / fresh['paid']:6.1%}  seconds {one['seconds'] / fresh['seconds']:6.1%} of the run from nothing"
        )
    print(f"the refreshed set is the one made from nothing: {grown['dataset'] == fresh['dataset']}")


def _run(home: Path, lines: list[str], store: str) -> dict[str, Any]:
    """Write the source, curate without Prefect, count what was paid."""
    from flows.curate import curation
    from schemas.recipe import load_recipe
    from storage.store import Store
    from tasks.bench import bench_of, call_cache

    (home / "rows.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    recipe = load_recipe(home / "recipe.yaml")
    bench = bench_of(recipe, home / store)
    call_cache(bench)
    before = _stored(home / store)
    start = time.perf_counter()
    ref = curation(recipe, bench)
    seconds = time.perf_counter() - start
    members = Store.open(home / store).pool(ref)["id"].to_list()
    return {"seconds": seconds, "paid": _stored(home / store) - before, "dataset": members}


def _stored(store: Path) -> int:
    """Answers in the call cache: each was paid once."""
    import sqlite3

    with sqlite3.connect(store / "calls.sqlite") as file:
        return int(file.execute("SELECT COUNT(*) FROM calls").fetchone()[0])


if __name__ == "__main__":
    main()
