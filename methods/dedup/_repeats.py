"""What all dedup methods share: which text counts, among whom, who of a group stays, and what a repeat's verdict says."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.conversation import content_at, texts_of
from methods.dedup._listing import Listing
from methods.spill import give_back
from methods.streamed import Batches
from methods.verdicts import keep_or_reject
from schemas.errors import UsageError
from schemas.method import DedupMethod

_ROWS = 1 << 17  # whose verdicts are made at once

On = Literal["prompt", "answer", "both"]
WHAT = {"prompt": "prompt", "answer": "answer", "both": "whole conversation"}
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,3}")


class Repeats(DedupMethod):
    """Fields that every dedup method has."""

    on: On = Field("both", description="which text is compared: the turns before the answer, the answer, or all turns")
    keep: Literal["first", "longest", "longest-answer", "best-source", "least-synthetic", "highest-field"] = Field(
        "first",
        description="which of a group stays: the lowest id; the longest conversation; the longest answer; the source that "
        "comes first in source_priority; the one made in the fewest steps from given data; or the highest number in "
        "keep_field. Ties go to the lowest id",
    )
    source_priority: tuple[str, ...] = Field((), description="best source first; the sources not named come last")
    keep_field: str | None = Field(
        None, description="for keep: highest-field, a numeric field of the original row, such as quality or meta.score"
    )
    scope: Literal["anywhere", "within-source", "across-sources"] = Field(
        "anywhere",
        description="who may repeat whom: any other example; only one of the same source; or only one of another source "
        "(repeats inside the source of the example that stays are then let be)",
    )

    @model_validator(mode="after")
    def _fields_belong_together(self) -> Self:
        if (self.keep == "highest-field") != (self.keep_field is not None):
            raise ValueError("keep: highest-field and keep_field go together: name the field, or leave both out")
        if (self.keep == "best-source") != bool(self.source_priority):
            raise ValueError(
                "keep: best-source and source_priority go together: name the sources, best first, or leave both out"
            )
        if self.keep_field is not None and not _FIELD.fullmatch(self.keep_field):
            raise ValueError(f"keep_field {self.keep_field!r} is not a field's name: use letters, digits, '_' and dots")
        return self

    def listed(self, batches: Batches, listing: Listing) -> Iterator[pl.DataFrame]:
        """The pool from its beginning, each batch added to the rows that are known as it goes by."""
        for batch in batches():
            good = None if self.keep in ("first", "outermost") else batch.select(good=self._goodness())["good"]
            listing.add(batch["id"], batch["source"], good)
            yield batch

    def _goodness(self) -> pl.Expr:
        """Higher stays; null is last."""
        match self.keep:
            case "longest":
                return texts_of().str.len_chars().cast(pl.Float64)
            case "longest-answer":
                return content_at(-1).str.len_chars().cast(pl.Float64)
            case "best-source":
                order = {name: -float(i) for i, name in enumerate(self.source_priority)}
                return pl.col("source").replace_strict(order, default=-float(len(order)), return_dtype=pl.Float64)
            case "least-synthetic":
                return -pl.col("synthetic_depth").cast(pl.Float64)
            case "highest-field":
                found = pl.col("extra").str.json_path_match(f"$.{self.keep_field}").cast(pl.Float64, strict=False)
                return pl.when(found.is_finite()).then(found)
            case _:
                return pl.lit(0.0)

    def verdicts(self, listing: Listing, repeats: "Found", rule: str) -> Iterator[pl.DataFrame]:
        """VERDICTS in pieces, in the order of the rows: every repeat rejected under ``rule``, with the example that stays
        in its evidence. ``UsageError`` where ``keep_field`` holds a number in no example, or no source is one of
        ``source_priority``.
        """
        if self.keep == "highest-field" and listing.rows and not listing.any_good:
            raise UsageError(
                f"keep_field: no example has a number in {self.keep_field!r}; name a field of the original rows that has"
            )
        if self.keep == "best-source" and listing.rows and not listing.names & set(self.source_priority):
            raise UsageError(
                f"source_priority names none of the pool's sources, which are {', '.join(sorted(map(str, listing.names)))}"
            )
        repeats = repeats.by_row()
        give_back()  # what was in memory to find the repeats
        for start in range(0, max(1, listing.rows), _ROWS):
            here = slice(*np.searchsorted(repeats.row, [start, start + _ROWS]))
            ids = listing.ids(slice(start, start + _ROWS))
            yield self._piece(ids, start, listing, repeats.some(here), rule)

    def _piece(self, ids: pl.Series, start: int, listing: Listing, repeats: "Found", rule: str) -> pl.DataFrame:
        via = repeats.via >= 0
        said = pl.DataFrame(
            {
                "row": (repeats.row - start).astype(np.uint32),
                "home": listing.ids(repeats.home).bin.encode("hex"),
                "near": repeats.similarity,
                "link": listing.ids(np.where(via, repeats.via, 0)).bin.encode("hex"),
                "link_near": repeats.via_similarity,
                "chained": via,
                "score": repeats.score,
            }
        )
        fact = pl.concat_str(
            pl.lit(f'{{"on":"{self.on}","repeats":"'), "home", pl.lit('","similarity":'), pl.col("near").cast(pl.String)
        )
        chain = pl.concat_str(
            pl.lit(',"via":"'), "link", pl.lit('","via_similarity":'), pl.col("link_near").cast(pl.String)
        )
        told = said.select(
            "row",
            "score",
            pl.lit(rule).alias("reason"),
            pl.concat_str(fact, pl.when("chained").then(chain).otherwise(pl.lit("")), pl.lit("}")).alias("evidence"),
        )
        judged = ids.to_frame("id").with_row_index("row").join(told, on="row", how="left", maintain_order="left")
        return keep_or_reject(ids, judged["reason"], score=judged["score"], evidence=judged["evidence"])


class Found:
    """Repeats as parallel arrays: ``row`` repeats ``home``, which stays, with ``similarity``.

    ``via`` is the row that links the two where they are not alike themselves (-1 where they are), ``via_similarity`` how
    alike it is; ``score`` is the greater of both similarities. Similarities are rounded to six decimals.
    """

    def __init__(
        self,
        row: np.ndarray,
        home: np.ndarray,
        similarity: np.ndarray,
        via: np.ndarray | None = None,
        via_similarity: np.ndarray | None = None,
    ) -> None:
        self.row, self.home = row, home
        self.similarity = np.round(similarity, 6)
        self.via = np.full(len(row), -1) if via is None else via
        self.via_similarity = np.zeros(len(row)) if via_similarity is None else np.round(via_similarity, 6)
        self.score = np.where(self.via >= 0, np.maximum(self.similarity, self.via_similarity), self.similarity)

    def some(self, which: np.ndarray | slice) -> "Found":
        """Some of the repeats."""
        return Found(
            self.row[which], self.home[which], self.similarity[which], self.via[which], self.via_similarity[which]
        )

    def by_row(self) -> "Found":
        """In the order of their rows."""
        ascending = bool((self.row[1:] > self.row[:-1]).all())
        return self if ascending else self.some(np.argsort(self.row, kind="stable"))


def text_compared(on: On) -> pl.Expr:
    """The text that near-duplicates are sought in. System turns are left out: shared by all, they make all alike."""
    turn = pl.element().struct
    said = pl.element().filter(~turn.field("role").is_in(["system", "developer"]).fill_null(False))
    texts = said.struct.field("content").fill_null("")
    if on == "answer":
        return content_at(-1)
    if on == "prompt":
        before = pl.col("messages").list.head(pl.max_horizontal(pl.col("messages").list.len(), 1) - 1)
        return before.list.eval(texts).list.join("\n\n").fill_null("")
    whole = pl.col("messages").list.eval(texts).list.join("\n\n").fill_null("")
    worse = pl.col("worse").list.eval(texts).list.join("\n\n")
    return pl.when(worse.is_null()).then(whole).otherwise(whole + "\n\n" + worse.fill_null(""))


def same_scope(scope: str, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which pairs may repeat each other, given their source codes, bool."""
    if scope == "anywhere":
        return np.ones(len(one), dtype=bool)
    return (one == other) if scope == "within-source" else (one != other)


def gone(labels: np.ndarray, sources: Sequence[int] | np.ndarray, scope: str) -> np.ndarray:
    """Which members of the components go, bool: all but the best one, or those of another source than the best one's.

    ``labels`` are those of `methods.texts.union_find.joined` over things in order, best first.
    """
    if scope == "across-sources":
        codes = np.asarray(sources)
        return codes != codes[labels]
    return labels != np.arange(len(labels))
