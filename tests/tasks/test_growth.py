"""A source that grew by one per cent: so many model calls are paid, and the set is the one that is made from nothing."""

import json
import sqlite3
from pathlib import Path

from flows.curate import curation
from schemas.recipe import Recipe
from storage.store import Store
from tasks.bench import bench_of, call_cache
from tests.tasks.fakes_recipe import recipe, rows


def refreshed(made: Recipe, store: Path) -> tuple[int, set[bytes]]:
    """Calls that were paid for by this refresh, and the ids of the published examples."""
    bench = bench_of(made, store)
    call_cache(bench)

    def stored() -> int:
        with sqlite3.connect(store / "calls.sqlite") as file:
            return int(file.execute("SELECT COUNT(*) FROM calls").fetchone()[0])

    before = stored()
    ref = curation(made, bench)
    return stored() - before, set(Store.open(store).pool(ref)["id"])


def test_a_refresh_pays_for_the_new_rows_only(tmp_path: Path) -> None:
    quick = {"generate": (), "finetune": None, "mix": None, "select": {"method": "top", "keep_fraction": 0.5}}
    made = recipe(tmp_path, **quick)
    full, _ = refreshed(made, tmp_path / "store")
    assert full >= 2 * 100, "each row is answered anew and reflected on"
    assert refreshed(made, tmp_path / "store")[0] == 0
    grown = [*rows(), {"instruction": "Name a color of the evening sky.", "input": "", "output": "Violet."}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in grown), "utf-8")
    paid, members = refreshed(made, tmp_path / "store")
    anew, fresh = refreshed(made, tmp_path / "other")
    assert paid == full // 100 == 2
    assert anew == full + paid
    assert members == fresh
