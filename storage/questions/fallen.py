"""What a step dropped, without what it kept: where those examples live, by which rule they fell and with which score.

Of ten million rows a step drops a few hundred thousand: what is asked about the dropped fits in memory, where whole
columns of every step would push each other out.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.lineage import Manifest
from storage.layout import QUARANTINE, REJECT
from storage.questions.dense import Array, Places, places
from storage.questions.lasting import lasting
from storage.questions.remembered import arrays
from storage.seek import Reader, inputs_by_role


@dataclass(frozen=True)
class Fallen:
    """The rows of a judged input that were rejected or quarantined, in their order. Arrays must not be written to."""

    at: Array  # uint32, positions in the input
    where: Places
    rule: Array  # uint16, as verdicts name it: from 1, 0 for none
    score: Array  # float32, NaN for none

    def __len__(self) -> int:
        return len(self.at)

    def only(self, flags: Array) -> "Fallen":
        """Some of them."""
        return Fallen(self.at[flags], self.where.at(flags), self.rule[flags], self.score[flags])


def fallen(reader: Reader, manifest: Manifest, role: str) -> Fallen:
    """The rows of that input that the step dropped; the role must be a judged one."""
    of = inputs_by_role(manifest)[role]

    def work() -> tuple[Array, ...]:
        frame = (
            reader.scan(manifest.ref, f"verdicts/{role}")
            .select("fate", "rule", pl.col("score").cast(pl.Float32).fill_null(float("nan")))
            .with_row_index("at")
            .filter((pl.col("fate") == REJECT) | (pl.col("fate") == QUARANTINE))
            .select("at", "rule", "score")
            .collect()
        )
        at = frame["at"].to_numpy()
        where = places(reader, of, keep=False)
        return at, where.home[at], where.row[at], frame["rule"].to_numpy(), frame["score"].to_numpy()

    key = (str(reader.store.root), manifest.commit_id, "fallen", role)
    at, home, row, rule, score = arrays.of(key, lambda: lasting(reader, (manifest,), key[1:], work))
    return Fallen(at, Places(tuple(reader.manifest(of).homes) or (of,), home, row), rule, score)


def dropped_any(manifest: Manifest, role: str) -> bool:
    """Whether the step dropped a row of that input, by its counts alone."""
    return any(one.rejected or one.quarantined for one in manifest.counts.inputs if one.role == role)


def first_of_each(numbers: Array, most: int) -> Array:
    """Where each number (0 to ``most``) stands for the first time, in order: ``np.unique`` without its sort."""
    first = np.full(most + 1, len(numbers), dtype=np.int64)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]
    return np.flatnonzero(first[numbers] == np.arange(len(numbers)))
