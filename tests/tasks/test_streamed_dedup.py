"""Dedup of a pool that is read in batches: the same version whatever the batches, whole in the store, and streams that fit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from flows.curate import curate
from methods.streamed import Batches, Streamed
from methods.verdicts import keep_or_reject
from schemas.errors import EmptyStage, InvariantViolation, MissingSource
from schemas.examples import VERDICTS, conform
from schemas.lineage import Manifest, Rule
from schemas.method import DedupMethod, Using
from schemas.recipe import BackendChoices, Recipe
from storage.store import Store
from tasks import columns, judge
from tasks.adhoc import adhoc_bench, taken_in
from tasks.judge import dedup_examples, together
from tests.methods._pools import pool_of
from tests.outside_check import Outside


def rows_file(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    texts = [f"Tell me about river number {n % 17} of the {('north', 'south')[n % 2]}." for n in range(60)]
    rows = [{"instruction": text, "input": "", "output": f"{text} It is long and slow in summer."} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def deduplicated(path: Path, store: Path, method: dict[str, Any]) -> Manifest:
    engines = {"embed": {"backend": "hashing", "dim": 32}}
    document = {"name": "rivers", "sources": {"rows": str(path)}, "dedup": method, "backends": engines}
    curate.fn(Recipe.model_validate(document), store, "run")
    return next(m for m in Store.open(store).versions() if m.step.stage == "dedup")


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ({"method": "exact"}, 9),
        ({"method": "minhash", "threshold": 0.6}, 9),
        ({"method": "semantic", "threshold": 0.9, "clusters": 2}, 1),
    ],
    ids=["exact", "minhash", "semantic"],
)
def test_the_version_is_the_same_whatever_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any], parts: int
) -> None:
    path = rows_file(tmp_path)
    whole = deduplicated(path, tmp_path / "whole", method)
    monkeypatch.setattr(judge, "PIECE_ROWS", 7)
    monkeypatch.setattr(columns, "BATCH_ROWS", 5)
    cut = deduplicated(path, tmp_path / "cut", method)
    assert whole.ref == cut.ref
    assert len(cut.parts["verdicts/pool"]) == parts
    assert (cut.digest == whole.digest) == (parts == 1)
    assert whole.counts == cut.counts
    assert cut.counts.inputs[0].rejected > 20
    assert whole.summary == cut.summary
    one, other = Store.open(tmp_path / "whole"), Store.open(tmp_path / "cut")
    for part in ("verdicts/pool", "members"):
        assert one.part(whole.ref, part).equals(other.part(cut.ref, part))
    assert other.verify() == []
    outside = Outside(tmp_path / "cut")
    for manifest in outside.manifests:
        outside.check(manifest)


def test_streams_cut_differently_come_together_and_a_short_one_is_refused():
    pool = pool_of(*[(f"q{i}", "a") for i in range(10)])
    said = conform(pool.select("id", fate=pl.lit("keep")), VERDICTS, "test")
    found = list(together(pool.iter_slices(4), said.iter_slices(3)))
    assert [examples.height for examples, _ in found] == [4, 4, 2]
    assert all((examples["id"] == verdicts["id"]).all() for examples, verdicts in found)
    with pytest.raises(InvariantViolation, match="1 verdicts are left for the next 2 examples"):
        list(together(pool.iter_slices(4), said.head(9).iter_slices(3)))
    with pytest.raises(InvariantViolation, match="more verdicts than examples"):
        list(together(pool.head(9).iter_slices(4), said.iter_slices(3)))


class RejectsAll(Streamed, DedupMethod):
    """Keeps nothing, for two reasons."""

    method: Literal["rejects-all"] = "rejects-all"

    def rules(self) -> list[Rule]:
        return [Rule(name="old", says="it is old"), Rule(name="new", says="it is new")]

    def judge_batches(
        self, batches: Batches, rows: int, *, using: Using, rng: np.random.Generator
    ) -> Iterator[pl.DataFrame]:
        for batch in batches():
            reason = ["new", *["old"] * (batch.height - 1)]
            yield keep_or_reject(batch["id"], reason)


def test_a_stream_that_keeps_nothing_is_refused_with_its_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 25)
    bench = adhoc_bench(tmp_path / "store", BackendChoices())
    pool = taken_in(str(rows_file(tmp_path)), bench)
    with pytest.raises(EmptyStage, match=r"kept none of 60 examples \(old 57, new 3\), most often: it is old; loosen"):
        dedup_examples(pool, RejectsAll(), bench)


def test_a_file_that_is_not_there_is_called_one(tmp_path: Path) -> None:
    bench = adhoc_bench(tmp_path / "store", BackendChoices())
    with pytest.raises(MissingSource, match=r"there is no file or folder '.*/My Rows\.jsonl'"):
        taken_in(str(tmp_path / "My Rows.jsonl"), bench)
    with pytest.raises(MissingSource, match="and there is no file 'rows'"):
        taken_in("rows", bench)
