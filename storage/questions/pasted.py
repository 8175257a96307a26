"""Where does this pasted text come from? Turns that are it or hold it, rows that share its wording, rows that read like it.

Every example of every version is looked through, dropped ones too, a slice of time per request; what was seen is kept.
Compared are words: letter case, spaces and punctuation aside, in Unicode's normal form NFKC.
"""

import hashlib
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from schemas.errors import MissingDataset, StoreError, UsageError
from schemas.lineage import DatasetRef
from storage.questions.dense import Array, places
from storage.questions.find import scopes
from storage.questions.neighbors import static_vectors
from storage.questions.remembered import arrays
from storage.questions.search import AT_ONCE
from storage.questions.trace import trace
from storage.questions.views import Damage, View
from storage.questions.words import preview
from storage.seek import Reader, legible
from storage.store import Store

How = Literal["exact", "words", "holds", "shares", "near"]

#: Seconds that one request looks for; the next one goes on where it stopped.
SECONDS = 0.4
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
    rare: tuple[str, ...]  # a row that shares a run holds one of these; empty: every row is compared
    key: str


def pasted(store: Store, text: str, *, seconds: float | None = SECONDS) -> Pasted:
    """Examples of the store that are, hold or resemble a text; ``UsageError`` if it has no word.

    At least one object is read each time; ``seconds`` None looks through everything.
    """
    text = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").strip()[:MOST_CHARACTERS]
    wanted = _wanted(text)
    reader = Reader(store)
    damage: list[Damage] = []
    found, seen, rows = _looked(reader, wanted, seconds, damage)
    best: dict[bytes, tuple[float, DatasetRef, int]] = {}
    found.sort(key=lambda one: (-one[0], str(one[1]), one[2]))
    with legible("the examples that were found"):
        some = reader.examples(
            [(ref, row) for _, ref, row in found[: SHOWN * 4]], ("id", "source", "messages", "worse")
        )
    shown: dict[bytes, dict[str, Any]] = {}
    for one, example in zip(found, some, strict=False):
        if example["id"] not in best and len(best) < SHOWN:
            best[example["id"]] = one
            shown[example["id"]] = example
    hits = [_hit(store, shown[id_], best[id_][1], score, text, wanted) for id_, (score, _, _) in best.items()]
    hits.sort(key=lambda hit: (_ORDER[hit.how], -(hit.share or 0.0)))
    near_in, near_by, near = _nearest(store, reader, text, {hit.id for hit in hits}, damage)
    return Pasted(
        text=text, hits=(*hits, *near), seen=seen, rows=rows, near_in=near_in, near_by=near_by, damage=tuple(damage)
    )


_ORDER: dict[How, int] = {"exact": 0, "words": 1, "holds": 2, "shares": 3, "near": 4}
_SAME, _HOLDS = 3.0, 2.0  # scores of a row; below stands its share of runs


def _plain(column: pl.Expr) -> pl.Expr:
    """Words alone, lower case, a space before and after each."""
    words = column.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    return pl.lit(" ") + words.str.strip_chars(" ") + pl.lit(" ")


def _wanted(text: str) -> _Wanted:
    words = pl.select(_plain(pl.lit(text))).item()
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
    rare = tuple(sorted(set(each), key=lambda word: (-len(word), word))[:8]) if words.isascii() else ()
    return _Wanted(words, tuple(runs), unit, rare, hashlib.sha256(words.encode()).hexdigest()[:32])


def _looked(
    reader: Reader, wanted: _Wanted, seconds: float | None, damage: list[Damage]
) -> tuple[list[tuple[float, DatasetRef, int]], int, int]:
    """Rows with their score, rows seen and rows there are; the lineage of the newest tag is looked through first."""
    refs = list(dict.fromkeys(m.ref for scope in scopes(reader) for m in reversed(scope.manifests)))
    parts = {ref: reader.manifest(ref).parts.get("examples", ()) for ref in refs}
    rows = sum(part.rows for some in parts.values() for part in some)
    until = None if seconds is None or rows <= AT_ONCE else time.monotonic() + seconds
    found: list[tuple[float, DatasetRef, int]] = []
    seen = fresh = 0
    for ref, objects in parts.items():
        start = 0
        for number, part in enumerate(objects):
            key = (str(reader.store.root), reader.manifest(ref).commit_id, "pasted", number, wanted.key)
            known: dict[str, Array] | None = arrays.get(key)
            if known is None and (not fresh or until is None or time.monotonic() < until):
                fresh += 1
                try:
                    with legible(f"examples of {ref}"):
                        known = _object(reader.objects(ref, "examples")[number][0], wanted)
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
    return found, seen, rows


def _object(table: pl.LazyFrame, wanted: _Wanted) -> dict[str, Array]:
    """The best rows of one object with their scores."""
    frame = table.select("messages", "worse").with_row_index("row").collect()
    sides = [
        frame.select("row", pl.col(name).alias("turn")).explode("turn", empty_as_null=False, keep_nulls=False)
        for name in ("messages", "worse")
    ]
    turns = pl.concat([side.select("row", pl.col("turn").struct.field("content")) for side in sides]).drop_nulls()
    if wanted.rare:
        told = pl.col("content").str.contains_any(list(wanted.rare), ascii_case_insensitive=True)
        turns = turns.filter(pl.col("row").is_in(turns.filter(told)["row"].unique().implode()))
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


def _hit(
    store: Store, example: dict[str, Any], home: DatasetRef, score: float, text: str, wanted: _Wanted
) -> PastedHit:
    turns = [turn["content"] or "" for name in ("messages", "worse") for turn in example[name] or ()]
    if any(turn.replace("\r\n", "\n").strip() == text for turn in turns):
        how, says = "exact", "a turn is this text, character for character"
    elif score >= _SAME:
        how, says = "words", "has the same words; letter case, spaces or punctuation differ"
    elif score >= _HOLDS:
        how, says = "holds", "holds the text within a longer one"
    else:
        how, says = "shares", f"holds {score:.0%} of the text's runs of {wanted.unit} ({len(wanted.runs)} looked for)"
    return _told(store, example, home, how, says, share=round(min(score, 1.0), 4), similarity=None)  # type: ignore[arg-type]


def _told(
    store: Store, example: dict[str, Any], home: DatasetRef, how: How, says: str, *,
    share: float | None, similarity: float | None,
) -> PastedHit:  # fmt: skip
    """A row with its fate: the sentence that its page begins with."""
    id_ = example["id"].hex()
    try:
        story = trace(store, id_)
        outcome, fate = str(story.outcome), story.sentence
    except (StoreError, MissingDataset, OSError, pl.exceptions.PolarsError) as error:
        outcome, fate = None, f"its story cannot be told: {error}"[:300]
    spoken = next((turn["content"] for turn in example["messages"] or () if turn["role"] != "system"), "")
    return PastedHit(
        id=id_, how=how, says=says, share=share, similarity=similarity, source=str(example["source"] or ""),
        preview=preview(spoken or "", 160), home=str(home), outcome=outcome, fate=fate,
    )  # fmt: skip


def _nearest(
    store: Store, reader: Reader, text: str, known: set[str], damage: list[Damage]
) -> tuple[str | None, str | None, list[PastedHit]]:
    """Members of the newest dataset that read most like the text, those found by their words left out."""
    newest = max(store.tags(), key=lambda tag: tag.created_at, default=None)
    if newest is None:
        return None, None, []
    named = f"{newest.name}@v{newest.number}"
    try:
        with legible(f"what reads like the text in {named}"):
            held = static_vectors(reader, newest.ref)
            mine = held.of({"messages": [{"role": "user", "content": text}]})
            if mine is None or not len(held.at):
                return named, held.by, []
            likeness = held.rows @ mine
            best = np.argsort(-likeness, kind="stable")[: NEAREST + 2 * SHOWN]
            some = places(reader, newest.ref).at(held.at[best])
            there = [(some.homes[home], int(row)) for home, row in zip(some.home, some.row, strict=True)]
            rows = reader.examples(there, ("id", "source", "messages"))
    except (StoreError, OSError, pl.exceptions.PolarsError) as error:
        damage.append(Damage(place=named, problem=str(error)[:300]))
        return named, None, []
    found: list[PastedHit] = []
    for i, (home, _), row in zip(best.tolist(), there, rows, strict=True):
        cosine = float(likeness[i])
        if row["id"].hex() in known or cosine < LEAST_LIKENESS or len(found) >= NEAREST:
            continue
        known.add(row["id"].hex())
        says = f"reads alike: cosine {cosine:.2f}"
        found.append(_told(store, row, home, "near", says, share=None, similarity=round(cosine, 4)))
    return named, held.by, found
