"""The last steps of the browser's benchmark store: rank, mix in a shuffled order, publish, train."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import polars as pl

from schemas.lineage import DatasetRef
from storage.layout import KEEP
from storage.store import Store
from tasks.figures import Figures

BATCH = 100_000
#: Share of the rows that each source brings, with its licence; what is left is generated.
SOURCES = (("web", 0.5, "CC-BY-4.0"), ("forum", 0.28, None), ("code", 0.2, "Apache-2.0"))


class Endings(ABC):
    """What stands at the end of each of the two ways. ``draft`` is the builder's."""

    store: Store
    rng: np.random.Generator
    run_id: str

    @abstractmethod
    def draft(self, stage: str, method: dict[str, Any], **inputs: DatasetRef) -> Any:
        """A draft of the step."""

    def rank(self, pool: DatasetRef) -> DatasetRef:
        draft = self.draft("rank", {"method": "ifd"}, pool=pool)
        draft.keep_members(self.store.describe(pool))
        rows = self.store.describe(pool).counts.rows_out
        draft.put(
            "scores",
            pl.DataFrame(
                {
                    "score": self.rng.random(rows),
                    "loss": 2 + self.rng.random(rows),
                    "tokens": self.rng.integers(20, 400, rows).astype(np.float64),
                }
            ),
        )
        return self.store.commit(draft).ref

    def mix(self, pool: DatasetRef) -> DatasetRef:
        """Every example once, a tenth twice, in a shuffled order, as ``tasks.mix`` leaves them."""
        draft = self.draft("mix", {"method": "temperature", "temperature": 2.0}, pool=pool)
        positions = self.store.positions(pool)
        draft.homes = list(self.store.describe(pool).homes)
        draft.put(
            "verdicts/pool",
            pl.select(
                fate=pl.repeat(KEEP, positions.height, dtype=pl.UInt8),
                rule=pl.repeat(0, positions.height, dtype=pl.UInt16),
            ),
        )
        twice = pl.concat([positions, positions.head(positions.height // 10)])
        draft.put("members", twice[self.rng.permutation(twice.height)])
        names = [name for name, _, _ in SOURCES] + ["written"]
        draft.summary = {
            "weights": dict.fromkeys(names, 0.25),
            "take": dict.fromkeys(names, twice.height // 4),
            "available": dict.fromkeys(names, positions.height // 4),
        }
        return self.store.commit(draft).ref

    def publish(self, pool: DatasetRef) -> str:
        draft = self.draft(
            "publish", {"declared": {"gsm8k": "d1", "mmlu": "d2"}, "max_contaminated_fraction": 0.1}, pool=pool
        )
        draft.keep_members(self.store.describe(pool))
        figures, ids = Figures(), []
        for batch in self.store.batches(pool, BATCH):
            numbered = batch.with_row_index("position", offset=figures.rows)
            draft.put("train", numbered.select("id", "messages", "tools", "worse", "source", "license", "position"))
            figures.add(batch)
            ids.append(batch["id"])
        index = pl.DataFrame({"id": pl.concat(ids)}).with_row_index("position")
        draft.put("index", index.select("id", pl.col("position").cast(pl.UInt32)).sort("id", "position"))
        checks = [{"name": "contamination", "status": "passed", "says": "checked against gsm8k and mmlu"}]
        mixed = self.store.describe(pool).summary
        draft.summary = figures.summary() | mixed | {"gate": {"status": "passed", "checks": checks}}
        tag = self.store.tag(
            "bench",
            self.store.commit(draft).ref,
            run_id=self.run_id,
            note="weekly",
            recipe={"name": "bench", "sources": {}},
        )
        return f"{tag.name}@v{tag.number}"

    def train(self, dataset: DatasetRef) -> None:
        """A fine-tuning with its losses over time, as its step leaves them."""
        tuned = self.draft("finetune", {"model": "student-1b", "method": "sft", "epochs": 1.0}, dataset=dataset)
        tuned.summary = {
            "metrics": {"train_loss": 1.25, "steps": 400},
            "history": [{"step": 10 * i, "loss": 3.0 - 0.04 * i} for i in range(1, 41)],
        }
        model = self.store.commit(tuned).ref
        scored = self.draft("evaluate", {"metrics": ["loss"]}, model=model)
        measured = {
            "metric": "heldout_loss",
            "slice": "all",
            "examples": 600,
            "value": 1.5,
            "low": 1.4,
            "high": 1.6,
            "before": 2.0,
            "change": -0.5,
            "change_low": -0.6,
            "change_high": -0.4,
        }
        scored.summary = {"measured": [measured]}
        self.store.commit(scored)
