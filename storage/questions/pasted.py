"""Where does this pasted text come from? Turns that are it or hold it, rows that share its wording, rows that read like it.

Every example of every version is looked through, dropped ones too, a slice of time per request; what was seen is kept.
Compared are words: letter case, spaces and punctuation aside, in Unicode's normal form NFKC.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from unicodedata import is_normalized, normalize

import numpy as np
import polars as pl

from schemas.errors import MissingDataset, StoreError, UsageError
from schemas.lineage import DatasetRef, Part
from storage.questions.dense import Array, places
from storage.questions.find import Place, Scope, scope_of, scopes
from storage.questions.neighbors import begins, static_vectors
from storage.questions.remembered import arrays
from storage.questions.search import AT_ONCE
from storage.questions.together import THREADS, read_together
from storage.questions.trace import fate
from storage.questions.views import Damage, View
from storage.seek import Reader, legible
from storage.store import Store

How = Literal["exact", "words", "holds", "shares", "near"]
#: The same for people.
HOW: Mapping[How, str] = {
    "exact": "exact", "words": "same words", "holds": "contains", "shares": "shared wording", "near": "nearest",
}  # fmt: skip

#: Seconds that one request looks for; the next one goes on where it stopped.
SECONDS = 0.06
#: Rows shown, and rows kept of each object.
SHOWN, KEPT = 12, 24
#: Characters that are looked for, and runs of words taken from them, evenly spread.
MOST_CHARACTERS, MOST_RUNS = 6000, 200
#: Words in a run, characters where a text has no spaces between words; the smallest share of runs that is shown.
RUN_WORDS, RUN_CHARACTERS, LEAST_SHARE = 3, 8, 0.1
#: Rows that read like it, and the least cosine.
NEAREST, LEAST_LIKENESS = 6, 0.3


class PastedHit(View):
    """One example. ``how``: a turn is the text to the letter, has the same words, or holds them; shares runs; is near."""

    id: str
    how: How
    says: str  # how it was found, in words
    share: float | None  # of the text's runs of words that the example holds
    similarity: float | None  # cosine
    source: str
    preview: str
    home: str
    outcome: str | None  # "kept", "dropped" …; None where its story cannot be told
    fate: str  # the sentence of its story


class Pasted(View):
    """What was found, surest first, and how far the search came."""

    text: str
    hits: tuple[PastedHit, ...]
    seen: int
    rows: int
    near_in: str | None  # the dataset whose members were compared by vectors
    near_by: str | None
    within: str | None = None  # the version whose history alone was looked through
    damage: tuple[Damage, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every example was looked at."""
        return self.seen >= self.rows


@dataclass(frozen=True)
class _Wanted:
    """A text as it is looked for."""

    words: str  # between spaces
    runs: tuple[str, ...]
    unit: str  # what a run is
    longest: tuple[str, ...]  # words that a row with all of the text's words holds
    key: str


def pasted(
    store: Store,
    text: str,
    *,
    within: DatasetRef | str | None = None,
    seconds: float | None = SECONDS,
    told: Callable[[int, int], None] | None = None,
) -> Pasted:
    """Examples of the store that are, hold or resemble a text; ``UsageError`` if it has no word.

    ``within`` is a ref or tag: only its history counts; ``MissingDataset`` if there is none. At least one object is read
    each time; ``seconds`` None looks through everything. ``told`` hears how many of how many examples were seen.
    """
    text = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").strip()[:MOST_CHARACTERS]
    wanted = _wanted(text)
    reader = Reader(store)
    lineages = list(scopes(reader)) if within is None else [scope_of(reader, within)]
    damage: list[Damage] = []
    found, seen, rows = _looked(reader, lineages, wanted, seconds, damage, told)
    best: dict[bytes, tuple[float, DatasetRef, int]] = {}
    found.sort(key=lambda one: -one[0])  # equal ones stay in the order in which lineages are looked through
    shown: dict[bytes, dict[str, Any]] = {}
    for start in range(0, len(found), SHOWN):  # a row may be there in several versions
        if len(best) == SHOWN:
            break
        part = found[start : start + SHOWN]
        with legible("the examples that were found"):
            some = reader.examples([(ref, row) for _, ref, row in part], ("id", "source", "messages", "worse"))
        for one, example in zip(part, some, strict=True):
            if example["id"] not in best and len(best) < SHOWN:
                best[example["id"]] = one
                shown[example["id"]] = example
    hits = [_hit(shown[id_], home, row, score, text, wanted) for id_, (score, home, row) in best.items()]
    hits.sort(key=lambda hit: (_ORDER[hit.how], -(hit.share or 0.0)))
    near_in, near_by, near = _nearest(reader, lineages[0], text, {hit.place.id for hit in hits}, damage)
    return Pasted(
        text=text, hits=tuple(_told(reader, lineages, [*hits, *near])), seen=seen, rows=rows, near_in=near_in,
        near_by=near_by, within=(lineages[0].tag or str(lineages[0].target)) if within is not None else None,
        damage=tuple(damage),
    )  # fmt: skip


_ORDER: dict[How, int] = {"exact": 0, "words": 1, "holds": 2, "shares": 3, "near": 4}
_SAME, _HOLDS = 3.0, 2.0  # scores of a row; below stands its share of runs
#: What keeps a row's fate from being told.
_UNTOLD = (StoreError, MissingDataset, OSError, pl.exceptions.PolarsError)


def _plain(column: pl.Expr) -> pl.Expr:
    """Words alone of a text in normal form, lower case, a space before and after each."""
    words = column.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    return pl.lit(" ") + words.str.strip_chars(" ") + pl.lit(" ")


def _in_normal_form(turns: pl.DataFrame) -> pl.DataFrame:
    """Turns in NFKC. Most are already: ASCII always is, and to ask costs a fifth of bringing a text into it."""
    numbered = turns.with_row_index("turn")
    beyond = numbered.filter(pl.col("content").str.len_bytes() != pl.col("content").str.len_chars())
    strange = [not is_normalized("NFKC", text) for text in beyond["content"].to_list()]
    mended = beyond.filter(pl.Series(strange, dtype=pl.Boolean)).with_columns(pl.col("content").str.normalize("NFKC"))
    if not mended.height:
        return turns
    others = numbered.join(mended.select("turn"), on="turn", how="anti")
    return pl.concat([others, mended]).sort("turn").drop("turn")


def _wanted(text: str) -> _Wanted:
    words = pl.select(_plain(pl.lit(normalize("NFKC", text)))).item()
    if not words.strip():
        raise UsageError("there is no word in the text to look for; paste a turn, or a part of one")
    each = words.split()
    runs = [f" {' '.join(each[i : i + RUN_WORDS])} " for i in range(len(each) - RUN_WORDS + 1)] or [words]
    unit = f"{RUN_WORDS} words"
    if len(words) / len(each) > 12:  # a script without spaces
        unit = f"{RUN_CHARACTERS} characters"
        runs = [words[i : i + RUN_CHARACTERS] for i in range(max(1, len(words) - RUN_CHARACTERS + 1))]
    runs = list(dict.fromkeys(runs))
    if len(runs) > MOST_RUNS:
        runs = [runs[i] for i in np.linspace(0, len(runs) - 1, MOST_RUNS).astype(int)]
    longest = tuple(sorted(set(each), key=lambda word: (-len(word), word))[:8])
    return _Wanted(words, tuple(runs), unit, longest, hashlib.sha256(words.encode()).hexdigest()[:32])


def _looked(
    reader: Reader,
    lineages: Sequence[Scope],
    wanted: _Wanted,
    seconds: float | None,
    damage: list[Damage],
    told: Callable[[int, int], None] | None,
) -> tuple[list[tuple[float, DatasetRef, int]], int, int]:
    """Rows with their score, rows seen and rows there are; the lineage of the newest tag is looked through first."""
    refs = list(dict.fromkeys(m.ref for scope in lineages for m in reversed(scope.manifests)))
    parts = {ref: reader.manifest(ref).parts.get("examples", ()) for ref in refs}
    rows = sum(part.rows for some in parts.values() for part in some)
    began = time.monotonic()
    until = None if seconds is None or rows <= AT_ONCE else began + seconds
    found: list[tuple[float, DatasetRef, int]] = []
    seen = fresh = 0  # rows, and those of them that no earlier request has looked at
    pool = ThreadPoolExecutor(THREADS if until is None else 1)
    begun = _begun(reader, parts, wanted, pool) if until is None else {}
    for ref, objects in parts.items():
        start = 0
        for number, part in enumerate(objects):
            key = _key(reader, ref, number, wanted)
            known: dict[str, Array] | None = arrays.get(key)
            now = time.monotonic()
            if known is None and (not fresh or until is None or now + part.rows * (now - began) / fresh <= until):
                fresh += part.rows
                try:
                    with legible(f"examples of {ref}"):
                        work = begun.get((ref, number))
                        known = work() if work else _object(reader.objects(ref, "examples")[number][0], wanted)
                except (StoreError, OSError, pl.exceptions.PolarsError) as error:
                    damage.append(Damage(place=str(ref), problem=str(error)[:300]))
                    seen += part.rows  # it can never be seen: the answer says so
                else:
                    arrays.keep(key, known)
            if known is not None:
                seen += part.rows
                found += [
                    (score, ref, start + row)
                    for score, row in zip(known["score"].tolist(), known["row"].tolist(), strict=True)
                ]
            start += part.rows
            if told is not None:
                told(seen, rows)
    pool.shutdown(wait=False)
    return found, seen, rows


def _key(reader: Reader, ref: DatasetRef, number: int, wanted: _Wanted) -> tuple[object, ...]:
    return (str(reader.store.root), reader.manifest(ref).commit_id, "pasted", number, wanted.key)


def _begun(
    reader: Reader, parts: Mapping[DatasetRef, Sequence[Part]], wanted: _Wanted, pool: ThreadPoolExecutor
) -> dict[tuple[DatasetRef, int], Callable[[], dict[str, Array]]]:
    """For a search of everything: each object's rows, looked through by several threads, few objects ahead of who asks."""
    left = [(ref, n) for ref, some in parts.items() for n in range(len(some))
            if arrays.get(_key(reader, ref, n, wanted)) is None]  # fmt: skip
    going: dict[tuple[DatasetRef, int], Future[dict[str, Array]]] = {}

    def one(ref: DatasetRef, number: int) -> dict[str, Array]:
        return _object(reader.objects(ref, "examples")[number][0], wanted)

    def result(at: int) -> dict[str, Array]:
        for which in left[at : at + THREADS]:
            if which not in going:
                going[which] = pool.submit(one, *which)
        return going.pop(left[at]).result()

    return {which: partial(result, at) for at, which in enumerate(left)}


def _object(table: pl.LazyFrame, wanted: _Wanted) -> dict[str, Array]:
    """The best rows of one object with their scores."""
    frame = table.select("messages", "worse").with_row_index("row").collect()
    sides = [
        frame.select("row", pl.col(name).alias("turn")).explode("turn", empty_as_null=False, keep_nulls=False)
        for name in ("messages", "worse")
    ]
    turns = pl.concat([side.select("row", pl.col("turn").struct.field("content")) for side in sides]).drop_nulls()
    turns = _in_normal_form(turns)
    turns = turns.filter(pl.col("row").is_in(_candidates(turns, wanted).implode()))
    plain = turns.select("row", _plain(pl.col("content")).alias("words"))
    whole = plain.group_by("row", maintain_order=True).agg(
        pl.col("words").str.join("").str.replace_all("  ", " ", literal=True).alias("all"),
        (pl.col("words") == wanted.words).any().alias("same"),
        pl.col("words").str.contains(wanted.words, literal=True).any().alias("holds"),
    )
    share = pl.col("all").str.extract_many(list(wanted.runs), overlapping=True).list.n_unique() / len(wanted.runs)
    scored = whole.select(
        "row",
        (pl.col("same") | (pl.col("all") == wanted.words)).alias("same"),
        (pl.col("holds") | pl.col("all").str.contains(wanted.words, literal=True)).alias("holds"),
        share.alias("share"),
    ).select(
        "row",
        pl.when("same")
        .then(_SAME)
        .when("holds")
        .then(_HOLDS)
        .otherwise(pl.col("share"))
        .cast(pl.Float64)
        .alias("score"),
    )
    best = scored.filter(pl.col("score") >= LEAST_SHARE).sort(["score", "row"], descending=[True, False]).head(KEPT)
    return {"row": best["row"].to_numpy(), "score": best["score"].to_numpy()}


@dataclass(frozen=True)
class _Hit:
    """A row that was found, before what became of it is known."""

    place: Place
    source: str
    begins: str
    how: How
    says: str
    share: float | None = None
    similarity: float | None = None


def _candidates(turns: pl.DataFrame, wanted: _Wanted) -> pl.Series:
    """Rows worth comparing word by word: a turn has a run of the text between plain spaces, or all of its longest words.

    Telling words apart costs twenty times as much as looking for a few of them.
    """
    text = pl.col("content") if wanted.words.isascii() else pl.col("content").str.to_lowercase()
    left = turns.select("row", text.alias("content"))
    runs = [run.strip() for run in wanted.runs]
    has_run = left.select(pl.col("content").str.contains_any(runs, ascii_case_insensitive=True)).to_series()
    found = left.filter(has_run)["row"]
    left = left.filter(~has_run)
    for word in wanted.longest:
        left = left.filter(pl.col("content").str.contains_any([word], ascii_case_insensitive=True))
    return pl.concat([found, left["row"]]).unique()


def _hit(example: Mapping[str, Any], home: DatasetRef, row: int, score: float, text: str, wanted: _Wanted) -> _Hit:
    turns = [turn["content"] or "" for name in ("messages", "worse") for turn in example[name] or ()]
    how: How
    if any(turn.replace("\r\n", "\n").strip() == text for turn in turns):
        how, says = "exact", "a turn is this text, character for character"
    elif score >= _SAME:
        how, says = "words", "has the same words; letter case, spaces or punctuation differ"
    elif score >= _HOLDS:
        how, says = "holds", "holds the text within a longer one"
    else:
        how, says = "shares", f"holds {score:.0%} of the text's runs of {wanted.unit} ({len(wanted.runs)} looked for)"
    place = Place(example["id"], home, row)
    return _Hit(place, example["source"] or "", begins(example["messages"]), how, says, share=round(min(score, 1.0), 4))


def _told(reader: Reader, lineages: Sequence[Scope], hits: Sequence[_Hit]) -> Iterator[PastedHit]:
    """Rows with their fates: the sentence that the page of each begins with. That of a tag's lineage never changes."""
    where = [next((scope for scope in lineages if hit.place.home in scope.refs), lineages[-1]) for hit in hits]
    keys = [(str(reader.store.root), "fate", str(scope.target), scope.tag, hit.place.id)
            for hit, scope in zip(hits, where, strict=True)]  # fmt: skip
    known: list[tuple[str | None, str] | None] = [arrays.get(key) for key in keys]
    for scope in lineages:
        new = [hit.place for hit, own, told in zip(hits, where, known, strict=True) if own is scope and not told]
        if new:
            read_together(reader, scope, new)
    for hit, scope, key, told in zip(hits, where, keys, known, strict=True):
        if told is None:
            told = _fate(reader, scope, hit.place)
            if told[0] is not None and scope.target is not None:
                arrays.keep(key, told)
        yield PastedHit(
            id=hit.place.id.hex(), how=hit.how, says=hit.says, share=hit.share, similarity=hit.similarity,
            source=hit.source, preview=hit.begins, home=str(hit.place.home),
            outcome=told[0], fate=told[1],
        )  # fmt: skip


def _fate(reader: Reader, scope: Scope, place: Place) -> tuple[str | None, str]:
    try:
        with legible(f"the story of example {place.id.hex()}"):
            return fate(reader, scope, place)
    except _UNTOLD as error:
        return None, f"its story cannot be told: {error}"[:300]


def _nearest(
    reader: Reader, scope: Scope, text: str, known: set[bytes], damage: list[Damage]
) -> tuple[str | None, str | None, list[_Hit]]:
    """Members of the lineage's version that read most like the text, those found by their words left out."""
    if scope.target is None:  # a store without a tag
        return None, None, []
    named = scope.tag or str(scope.target)
    try:
        with legible(f"what reads like the text in {named}"):
            held = static_vectors(reader, scope.target)
            mine = held.of({"messages": [{"role": "user", "content": text}]})
            if mine is None or not len(held.at):
                return named, held.by, []
            likeness = held.rows @ mine
            best = np.argsort(-likeness, kind="stable")[: NEAREST + len(known) + 4]
            best = best[likeness[best] >= LEAST_LIKENESS]
            some = places(reader, scope.target).at(held.at[best])
            there = [(some.homes[home], int(row)) for home, row in zip(some.home, some.row, strict=True)]
    except (StoreError, OSError, pl.exceptions.PolarsError) as error:
        damage.append(Damage(place=named, problem=str(error)[:300]))
        return named, None, []
    found: list[_Hit] = []
    for i, (home, at) in zip(best.tolist(), there, strict=True):
        cosine = float(likeness[i])
        digits, source, begin = held.told[i]
        id_ = bytes.fromhex(digits)
        if id_ in known or len(found) >= NEAREST:
            continue
        known.add(id_)
        says = f"reads alike: cosine {cosine:.2f}"
        found.append(_Hit(Place(id_, home, at), source, begin, "near", says, similarity=round(cosine, 4)))
    return named, held.by, found
