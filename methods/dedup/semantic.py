"""Examples that say what another says, in whatever words: repeats by the cosine of embeddings."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods import spill
from methods.dedup._cosines import DECIMALS, Homes, Vectors, any_earlier, cosines, first_come
from methods.dedup._equal_texts import TextKeys
from methods.dedup._listing import Listing
from methods.dedup._repeats import WHAT, Found, Repeats, text_compared
from methods.dedup._row_sets import Distinct
from methods.keyed import drawn_seed
from methods.parallel import in_order, workers
from methods.points.kmeans import kmeans
from methods.points.vectors import vectors_of
from methods.spill import give_back, taken
from methods.streamed import Batches, Streamed, pieces_of
from schemas.lineage import Rule
from schemas.method import Using

_RULE = "semantic-duplicate"
_ROWS = 1 << 16  # of a pool worked on at once
_BLANK = r"^[\s\p{C}\u{FE00}-\u{FE0F}]*$"


class Semantic(Streamed, Repeats):
    """Drops an example whose embedding lies within ``threshold`` cosine of that of an example that stays.

    Score: the cosine, in [threshold, 1], rounded to six decimals; the verdict names the example that stays and is
    closest. Examples are taken best first (``keep``); ``chains: break`` drops one that is close to an example that
    *stays*, ``collapse`` one that is close to any before it, even a dropped one, which is SemDeDup's rule: of vectors at
    0, 10 and 20 degrees with neighbours alike, the first keeps two and the second one. Everything is compared with
    everything, exactly; with ``clusters``, only inside k-means clusters, as in the paper: faster on millions, and blind to
    repeats that lie in two clusters. Equal texts are embedded once. An embedder reads only the beginning of a long text.

    Paper: Abbas et al. 2023 (SemDeDup), https://arxiv.org/abs/2303.09540. Departs from it in comparing everything by
    default, in not counting dropped examples, and in who stays: the paper keeps those far from their centroid
    (``keep: outermost``).
    """

    method: Literal["semantic"] = "semantic"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})
    per_example: ClassVar[bool] = False
    in_pieces: ClassVar[bool] = False  # digests of versions stay those of before it was streamed

    keep: Literal[  # type: ignore[assignment]  # one choice more than the base
        "first", "longest", "longest-answer", "best-source", "least-synthetic", "highest-field", "outermost"
    ] = Field(
        "first",
        description="which of a group stays: as for the other dedup methods; or the example farthest from the centroid of "
        "its cluster (of the whole pool, where there are no clusters). Ties go to the lowest id",
    )
    threshold: float = Field(0.95, gt=0, le=1, description="cosine at or above which one repeats the other")
    chains: Literal["break", "collapse"] = Field(
        "break", description="drop what is close to an example that stays, or to any that comes before it"
    )
    clusters: int = Field(
        0,
        ge=0,
        le=100_000,
        description="k-means clusters inside which is compared; 0 compares everything with everything",
    )

    @model_validator(mode="after")
    def _scope_needs_no_chains(self) -> Self:
        if self.scope == "across-sources" and self.chains == "collapse":
            raise ValueError("chains: collapse does not go with scope: across-sources; leave one of them out")
        return self

    def rules(self) -> Sequence[Rule]:
        """One rule."""
        says = f"the {WHAT[self.on]} means nearly the same as that of an example that stays"
        return [Rule(name=_RULE, says=says, threshold=self.threshold, direction="keep-below")]

    def judge_batches(
        self, batches: Batches, rows: int, *, using: Using, rng: np.random.Generator
    ) -> Iterator[pl.DataFrame]:
        """See `Streamed`: a pass that tells equal texts, one that embeds each once; vectors go to a file where they are many.

        Draws one number, for the clusters.
        """
        listing = Listing(rows)
        found = self._repeats(batches, listing, using, drawn_seed(rng))
        yield from self.verdicts(listing, found, _RULE)

    def _repeats(self, batches: Batches, listing: Listing, using: Using, seed: int) -> Found:
        """Lists the pool, and finds every row that goes."""
        text = text_compared(self.on)
        keys = TextKeys.of(self.listed(batches, listing), listing.rows, text, using.progress, _BLANK)
        sources = listing.whole().sources
        distinct = distinct_texts(keys, listing.best_first(), None if self.scope == "anywhere" else sources)
        del keys
        give_back()
        vectors = embedded(batches, text, distinct, using)
        label, centrality = self._clustered(vectors, seed)
        if self.keep == "outermost":
            # Rows stand by id, so that a stable sort leaves ties to the lowest.
            order = np.argsort(np.round(centrality, DECIMALS), kind="stable")
            moved = np.empty_like(order)
            moved[order] = np.arange(len(order))
            distinct = Distinct(distinct.row[order], np.where(distinct.number < 0, -1, moved[distinct.number]))
            vectors, label = taken(vectors, order), label[order]
        return self._found(vectors, distinct, self._homes(vectors, label, sources[distinct.row], using))

    def _clustered(self, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The cluster of each row, and its cosine to the centroid."""
        if not self.clusters and self.keep != "outermost":
            return np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows))
        found = kmeans(rows, max(1, self.clusters), np.random.default_rng(seed))
        return found.label, found.cosine

    def _homes(self, rows: np.ndarray, label: np.ndarray, sources: np.ndarray, using: Using) -> Homes:
        """Who repeats whom among rows in order, compared inside their clusters, by the scope."""
        decide = first_come if self.chains == "break" else any_earlier
        apart = sources if self.scope == "across-sources" else None
        parts = _parts(label, sources if self.scope == "within-source" else np.zeros_like(sources))
        if len(parts) == 1:
            vectors = Vectors(rows, self.threshold, apart)
            return decide(vectors, lambda done: using.progress(len(rows) + done, 2 * len(rows), "pairs"))
        homes = Homes.of(len(rows))
        room = spill.IN_MEMORY // workers()  # parts are in memory beside each other

        def one(part: np.ndarray) -> tuple[np.ndarray, Homes]:
            others = None if apart is None else apart[part]
            vectors = Vectors(taken(rows, part, room), self.threshold, others, threads=1, in_memory=room)
            return part, decide(vectors, lambda done: None)

        done = 0
        for part, found in in_order(one, parts):
            homes.home[part], homes.cosine[part] = part[found.home], found.cosine
            done += len(part)
            using.progress(len(rows) + done, 2 * len(rows), "pairs")
        return homes

    def _found(self, rows: np.ndarray, distinct: Distinct, homes: Homes) -> Found:
        """Every row that goes; one that goes because of a chain names its end, and the link."""
        root = homes.home
        while not np.array_equal(root[root], root):
            root = root[root]
        similar, via = homes.cosine.copy(), np.full(len(root), -1)
        chained = np.flatnonzero(root != homes.home)
        similar[chained] = cosines(rows, chained, root[chained])
        far = chained[similar[chained] < self.threshold]
        via[far] = distinct.row[homes.home[far]]
        member = np.flatnonzero(distinct.number >= 0)
        number = distinct.number[member]
        moved = root != np.arange(len(root))
        goes = moved[number] if self.scope == "across-sources" else member != distinct.row[root[number]]
        row, number = member[goes], number[goes]
        return Found(row, distinct.row[root[number]], similar[number], via[number], homes.cosine[number])


def distinct_texts(keys: TextKeys, best_first: np.ndarray, sources: np.ndarray | None) -> Distinct:
    """The best row of each text that has a visible character (of each source, where ``sources`` is given)."""
    order = best_first[~keys.blank[best_first]]
    row, home = keys.best_equal(order, sources)
    number = np.full(len(best_first), -1)
    number[home] = 0
    best = order[number[order] == 0]
    number[best] = np.arange(len(best))
    number[row] = number[home]
    return Distinct(best, number)


def embedded(batches: Batches, text: pl.Expr, distinct: Distinct, using: Using) -> np.ndarray:
    """Embeddings of the distinct texts in their order, float32 (n, dim); in a file where they outgrow memory.

    The texts are embedded in the order of the pool, which is not theirs.
    """
    count = len(distinct.row)
    wanted = np.zeros(len(distinct.number), dtype=bool)
    wanted[distinct.row] = True

    def texts() -> Iterator[pl.Series]:
        done = 0
        for piece in pieces_of(batches(), _ROWS):
            here = pl.Series(wanted[done : done + piece.height])
            done += piece.height
            yield piece.filter(here).select(text.alias("text"))["text"]

    def told(done: int) -> None:
        using.progress(done, 2 * count, "embeddings")

    return vectors_of(texts(), np.argsort(distinct.row), using.embed, told)


def _parts(label: np.ndarray, sources: np.ndarray) -> list[np.ndarray]:
    """Rows of equal label and source, each part ascending, the largest first."""
    key = label * (int(sources.max(initial=0)) + 1) + sources
    order = np.argsort(key, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
    return sorted(parts, key=len, reverse=True)
