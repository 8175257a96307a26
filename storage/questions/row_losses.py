"""What training did to single rows: the loss of each measured row before and after, as ``losses`` steps stored it.

A ``losses`` step reads a model (input ``model``) and the version it was trained on (input ``pool``); its part ``scores``
is dense over that version: ``before``, ``after``, ``change``, ``tokens``, ``truncated``, ``first`` (1 where an example
stands for the first time, 0 for its repeats); all null where a row was not measured, ``tokens`` 0 where it could not be.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from schemas.lineage import DatasetRef, Manifest
from storage.questions.figures import BINS, remembered
from storage.questions.find import tag_of
from storage.questions.loss_views import ExampleLoss, LossRow, RowLosses
from storage.questions.words import preview
from storage.seek import Reader

#: The stage of the steps that are meant here.
STAGE = "losses"
#: Rows of a version that are listed by themselves.
WORST = 10
_ONCE = pl.col("after").is_not_null() & (pl.col("first") > 0)


def row_losses(reader: Reader, manifests: Sequence[Manifest]) -> tuple[RowLosses, ...]:
    """Every measurement among these manifests, in their order."""
    return tuple(_of_step(reader, manifest) for manifest in manifests if manifest.ref.stage == STAGE)


def example_losses(
    reader: Reader, manifests: Sequence[Manifest], home: DatasetRef, row: int
) -> tuple[ExampleLoss, ...]:
    """What each measurement among these manifests found about one example; nothing where its version has it not."""
    found: list[ExampleLoss] = []
    for manifest in manifests:
        if manifest.ref.stage != STAGE:
            continue
        inputs = dict(manifest.step.inputs)
        at = reader.positions_of(inputs["pool"], home, row)
        if not at:
            continue
        stored: Mapping[str, Any] = reader.row(manifest.ref, "scores", at[0]) or {}
        after = stored.get("after")
        above = 0
        if after is not None:
            higher = (_ONCE & (pl.col("after") > after)).sum()
            above = int(reader.scan(manifest.ref, "scores").select(higher).collect().item())
        found.append(
            ExampleLoss(
                ref=str(manifest.ref),
                model=str(inputs["model"]),
                base=base_of(manifest),
                dataset=_named(reader, inputs["pool"]),
                asked=stored.get("tokens") is not None,
                before=stored.get("before"),
                after=after,
                change=stored.get("change"),
                tokens=int(stored.get("tokens") or 0),
                truncated=bool(stored.get("truncated")),
                place=above + 1 if after is not None else None,
                scored=summary_of(manifest, "scored"),
                rows=summary_of(manifest, "examples"),
            )
        )
    return tuple(found)


def _of_step(reader: Reader, manifest: Manifest) -> RowLosses:
    def work() -> RowLosses:
        inputs = dict(manifest.step.inputs)
        frame = reader.scan(manifest.ref, "scores").with_row_index("position").filter(_ONCE).collect()
        before, after = (frame[name].to_numpy() for name in ("before", "after"))
        worst = frame.sort("after", "position", descending=[True, False]).head(WORST)
        edges, counts = _bins(before, after)
        return RowLosses(
            ref=str(manifest.ref),
            model=str(inputs["model"]),
            base=base_of(manifest),
            dataset=_named(reader, inputs["pool"]),
            examples=summary_of(manifest, "examples"),
            asked=summary_of(manifest, "asked"),
            scored=summary_of(manifest, "scored"),
            unscored={str(k): int(v) for k, v in (manifest.summary.get("unscored") or {}).items()},
            truncated=summary_of(manifest, "truncated"),
            before=manifest.summary.get("before"),
            after=manifest.summary.get("after"),
            fell=int((after < before).sum()),
            rose=int((after > before).sum()),
            edges=edges,
            counts_before=counts[0],
            counts_after=counts[1],
            worst=_lines(reader, inputs["pool"], worst),
            says=_says(manifest, int((after < before).sum()), int((after > before).sum())),
        )

    return remembered(reader, manifest, "row losses", work)


def _bins(before: Any, after: Any) -> tuple[tuple[float, ...], tuple[tuple[int, ...], tuple[int, ...]]]:
    """Both distributions over the same bars."""
    both = np.concatenate([before, after])
    if not both.size:
        return (), ((), ())
    low, high = 0.0, max(float(both.max()), 1e-6)
    edges = np.linspace(low, high, BINS + 1)
    counts = [tuple(int(n) for n in np.histogram(values, edges)[0]) for values in (before, after)]
    return tuple(float(edge) for edge in edges), (counts[0], counts[1])


def _lines(reader: Reader, of: DatasetRef, frame: pl.DataFrame) -> tuple[LossRow, ...]:
    places = reader.members_at(of, frame["position"].to_list())
    lines: list[LossRow] = []
    for stored, example in zip(
        frame.iter_rows(named=True), reader.examples(places, ("id", "source", "messages")), strict=True
    ):
        turns = [turn for turn in example["messages"] or () if turn["role"] != "system"]
        lines.append(
            LossRow(
                id=example["id"].hex(),
                position=stored["position"],
                source=example["source"] or "",
                prompt=preview(turns[0]["content"] or "", 140) if turns else "",
                answer=preview(turns[-1]["content"] or "", 140) if len(turns) > 1 else "",
                before=stored["before"],
                after=stored["after"],
                change=stored["change"],
                tokens=int(stored["tokens"]),
            )
        )
    return tuple(lines)


def _says(manifest: Manifest, fell: int, rose: int) -> str:
    """How much was measured, in a sentence that hides no sampling."""
    examples, asked, scored = (summary_of(manifest, key) for key in ("examples", "asked", "scored"))
    told = (
        f"all {examples:,} examples" if asked == examples else f"{asked:,} of {examples:,} examples, drawn by their ids"
    )
    if scored != asked:
        told += f"; {asked - scored:,} could not be scored"
    return f"{told}; the loss of {fell:,} fell, of {rose:,} rose"


def base_of(manifest: Manifest) -> str | None:
    """The model that was tuned, by name."""
    named = manifest.summary.get("base_model")
    return str(named) if named else None


def summary_of(manifest: Manifest, key: str) -> int:
    """A count that the step noted."""
    return int(manifest.summary.get(key) or 0)


def _named(reader: Reader, ref: DatasetRef) -> str:
    return tag_of(reader, ref) or str(ref)
