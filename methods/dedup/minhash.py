"""Examples that share most of their word n-grams with another's: near-duplicates by MinHash, in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.dedup._clusters import Cluster, Things, connected, greedy
from methods.dedup._listing import Listing
from methods.dedup._repeats import WHAT, Found, Repeats, text_compared
from methods.dedup._row_sets import Distinct, RowSets, distinct_sets
from methods.parallel import in_order
from methods.spill import Columns, let_go
from methods.streamed import Batches, Streamed
from methods.texts.minhash import Affine61, OddMultipliers, Permutations, band_keys, best_bands, signature_blocks
from methods.texts.shingles import Unit
from schemas.lineage import Rule
from schemas.method import Progress, Using

_RULE = "near-duplicate"
_SETS = 1 << 14  # signatures made at once


class MinHash(Streamed, Repeats):
    """Drops an example whose shingles are mostly those of another that stays; score: Jaccard similarity, in (0, 1].

    Shingles are n-grams of folded words (`methods.texts.words`: case, accents, punctuation, look-alikes and invisible
    characters do not count; scripts without spaces give one word per character) or of characters. Candidates share a
    band of a MinHash signature; with ``verify`` their true Jaccard similarity decides, so that nothing is dropped below
    the threshold. Clusters are the connected components of those pairs, and the best of each stays; ``evidence`` names
    it, and where a repeat resembles it only through a chain, the link (``via``). ``grouping: greedy`` breaks chains:
    an example goes only if it resembles one that stays. A text without a visible character repeats nothing.

    Paper: Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900; band parameters as in Lee et al. 2022,
    https://arxiv.org/abs/2107.06499. Departs from common practice in verifying candidates, and in choosing bands that
    miss less (weight 0.9 for missed pairs) when it does.
    """

    method: Literal["minhash"] = "minhash"
    per_example: ClassVar[bool] = False

    threshold: float = Field(0.7, gt=0, le=1, description="similarity at or above which one repeats the other")
    shingle: Unit = Field("words", description="n-grams of words, or of characters (punctuation counts then)")
    ngram: int | None = Field(
        None,
        ge=1,
        le=64,
        description="words or characters in a shingle; by default 3 words, which suits instructions (5 are usual for web "
        "pages), or 12 characters",
    )
    permutations: int = Field(128, ge=1, le=9000, description="rows of a signature, where bands and rows are not given")
    bands: int | None = Field(None, ge=1, le=1000, description="bands; by default the best for the threshold")
    rows: int | None = Field(None, ge=1, le=100, description="rows of a band; by default the best for the threshold")
    verify: bool = Field(True, description="compute the true similarity of candidates; else sharing a band is enough")
    grouping: Literal["connected", "greedy"] = Field(
        "connected", description="clusters by chains of similar pairs, or only what resembles an example that stays"
    )
    hashing: Literal["odd-32", "affine-61"] = Field(
        "odd-32", description="hash family: 32-bit multiplications, or datatrove's (61 bits, about 5 times slower)"
    )
    hash_seed: int = Field(1, ge=0, le=2**32 - 1, description="seed of the hash family")

    @model_validator(mode="after")
    def _bands_have_rows(self) -> Self:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("bands and rows go together: give both, or neither (then the threshold decides)")
        return self

    def rules(self) -> Sequence[Rule]:
        """One rule."""
        unit = "words" if self.shingle == "words" else "characters"
        said = (
            f"the {WHAT[self.on]} shares most of its {self.size()}-grams of {unit} with that of an example that stays"
        )
        if not self.verify:
            return [Rule(name=_RULE, says=said + " (by signature)")]
        return [Rule(name=_RULE, says=said, threshold=self.threshold, direction="keep-below")]

    def size(self) -> int:
        """Words or characters in a shingle."""
        return self.ngram or (3 if self.shingle == "words" else 12)

    def banding(self) -> tuple[int, int]:
        """``(bands, rows)`` as given or as the threshold asks."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        return best_bands(self.threshold, self.permutations, 0.9 if self.verify else 0.5)

    def judge_batches(
        self, batches: Batches, rows: int, *, using: Using, rng: np.random.Generator
    ) -> Iterator[pl.DataFrame]:
        """See `Streamed`: a pass over the texts, then sets and signatures, in a file where they outgrow memory.

        Draws no number.
        """
        listing, told = Listing(rows), _Told(using.progress, rows)
        pool = self.listed(batches, listing)
        sets = RowSets.of(pool, rows, text_compared(self.on), self.size(), self.shingle, told.shingled)
        found = self._repeats(sets, listing.whole(), told)
        del sets  # while verdicts are stored
        yield from self.verdicts(listing, found, _RULE)

    def _repeats(self, sets: RowSets, listing: Listing, told: "_Told") -> Found:
        bands, rows = self.banding()
        family = (OddMultipliers if self.hashing == "odd-32" else Affine61).drawn(bands * rows, self.hash_seed)
        sources = listing.sources
        distinct = distinct_sets(sets, listing.best_first(), None if self.scope == "anywhere" else sources)
        keys = _keys(sets, np.sort(distinct.row), family, bands, rows, told.signed)
        number = np.argsort(np.argsort(distinct.row))  # of a set's row among the rows that have keys
        things = Things(
            sizes=sets.size[distinct.row],
            sources=sources[distinct.row],
            bands=bands,
            keys=lambda band: keys.column(band)[number],
            similarity=lambda one, other: sets.similarity(distinct.row[one], distinct.row[other]),
            scope=self.scope,
            threshold=self.threshold if self.verify else None,
        )
        cluster = (connected if self.grouping == "connected" else greedy)(things, told.clustered(bands))
        return repeats(sets, distinct, cluster, self.scope, things.threshold or 0.0)


def repeats(sets: RowSets, distinct: Distinct, cluster: Cluster, scope: str, threshold: float) -> Found:
    """Every row that goes, with the row that stays; a chain is told by the row that links the two."""
    member = np.flatnonzero(distinct.number >= 0)
    number = distinct.number[member]
    moved = cluster.home != np.arange(len(cluster.home))
    goes = moved[number] if scope == "across-sources" else member != distinct.row[cluster.home[number]]
    row, number = member[goes], number[goes]
    similar, linked = np.ones(len(moved)), np.zeros(len(moved))
    which = np.flatnonzero(moved)
    similar[which] = sets.similarity(distinct.row[which], distinct.row[cluster.home[which]])
    chained = which[similar[which] < threshold]
    linked[chained] = sets.similarity(distinct.row[chained], distinct.row[cluster.link[chained]])
    via = np.full(len(moved), -1)
    via[chained] = distinct.row[cluster.link[chained]]
    return Found(row, distinct.row[cluster.home[number]], similar[number], via[number], linked[number])


def _keys(
    sets: RowSets, row: np.ndarray, family: Permutations, bands: int, rows: int, told: Callable[[int], None]
) -> Columns:
    """The band keys of the sets of these rows (ascending): column = band, in the order of the rows."""
    keys = Columns(bands, len(row))

    def signed(start: int) -> tuple[int, np.ndarray]:
        part = sets.take(row[start : start + _SETS])
        out = np.empty((bands, len(part.first) - 1), dtype=np.uint64)
        for place, least in signature_blocks(part.hashes, part.first, family):
            out[:, place] = band_keys(least, bands, rows)
        return start, out

    for start, values in in_order(signed, range(0, len(row), _SETS)):
        keys.put(start, values)
        if start % (64 * _SETS) == 0:
            let_go(sets.hashes)
        told(start + values.shape[1])
    return keys


class _Told:
    """Progress over three parts of equal weight: shingles, signatures, bands."""

    def __init__(self, progress: Progress, rows: int) -> None:
        self._progress, self._rows = progress, rows

    def shingled(self, rows: int) -> None:
        """So many rows have shingles."""
        self._progress(rows, 3 * self._rows, "shingles")

    def signed(self, rows: int) -> None:
        """So many sets have signatures."""
        self._progress(self._rows + rows, 3 * self._rows, "signatures")

    def clustered(self, bands: int) -> Callable[[int], None]:
        """So many of the bands are through."""
        return lambda band: self._progress(2 * self._rows + self._rows * band // bands, 3 * self._rows, "bands")
