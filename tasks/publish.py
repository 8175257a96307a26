"""Write the one self-contained copy that trainers read, look at the gate, and move the tag."""

from typing import Any

import polars as pl

from schemas.lineage import DatasetRef
from schemas.recipe import Decontamination
from storage.packs.shelf import load_pack
from tasks.bench import Bench, open_store
from tasks.events import Event, emit
from tasks.figures import Figures
from tasks.gate import inspect
from tasks.materialise import Work, materialise
from tasks.stage_task import stage_task

VERSION = 1
#: What a mixture says of itself and the published version says again; ``ordered``: its order is a curriculum.
CARRIED = ("weights", "take", "available", "ordered", "stages", "passes")
TRAIN = ("id", "messages", "tools", "worse", "source", "license")


@stage_task("publish {name}")
def publish(
    name: str, dataset: DatasetRef, gate: Decontamination | None, bench: Bench, recipe: dict[str, Any]
) -> DatasetRef:
    """The published version of ``dataset``, tagged ``name``; its gate status is part of it."""
    declared = {pack.name: pack.digest for pack in map(load_pack, gate.benchmarks)} if gate else {}
    allowed = gate.max_contaminated_fraction if gate else 0.0
    identity = {"stage": "publish", "version": VERSION, "declared": declared, "max_contaminated_fraction": allowed}

    def compute(work: Work) -> None:
        source = work.store.describe(dataset)
        work.draft.keep_members(source)
        figures, ids = Figures(), []
        for rows in work.store.batches(dataset):
            numbered = rows.select(TRAIN).with_row_index("position", offset=figures.rows)
            work.draft.put("train", numbered.select(*TRAIN, "position"))
            figures.add(rows)
            ids.append(rows["id"])
            work.using.progress(figures.rows, source.counts.rows_out, "written")
        index = pl.DataFrame({"id": pl.concat(ids) if ids else pl.Series([], dtype=pl.Binary)}).with_row_index(
            "position"
        )
        work.draft.put("index", index.select("id", pl.col("position").cast(pl.UInt32)).sort("id", "position"))
        work.draft.summary.update(figures.summary() | {k: source.summary[k] for k in CARRIED if k in source.summary})
        seen = inspect(work.store, dataset, declared, allowed)
        work.draft.summary["gate"] = {"status": seen.status, **seen.model_dump(mode="json")}

    ref = materialise("publish", identity, [("pool", dataset)], bench, compute)
    if not bench.dry:
        tag = open_store(bench).tag(name, ref, run_id=bench.run_id, recipe=recipe or None)  # ad hoc there is none
        emit(Event("note", "publish", f"{name}@v{tag.number}", str(ref), note=f"is {ref}"))
    return ref
