"""Which examples of a version read most alike? By vectors that a run left in the cache, else by a small table of words.

What stands behind the answer is named with it: the recipe's own embedder where its vectors of enough members are
cached, otherwise the static embeddings that ship with the package, computed here and kept in memory.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from backends.embed.static import Static, StaticEngine
from schemas.errors import MissingDataset
from schemas.identity import digest16
from schemas.lineage import DatasetRef, Manifest
from storage.calls.keys import identity_text
from storage.questions.dense import Array, Places, places
from storage.questions.find import find_example, tag_of
from storage.questions.lasting import lasting
from storage.questions.remembered import arrays
from storage.questions.views import View
from storage.questions.words import preview
from storage.seek import Reader, legible
from storage.store import Store

#: Members that are compared; of a larger version so many stretches, evenly spread: a stretch is one read.
MOST = 2_000
STRETCHES = 8
#: Share of members whose cached vectors must be there to be used.
ENOUGH = 0.9
_CHARACTERS = 2000
#: Characters of a member's beginning.
BEGINS = 160
#: Id, source and beginning of each member.
Told = Sequence[tuple[str, str, str]]
STATIC = "static word vectors distilled from all-MiniLM-L6-v2 (they ship with provender; word order is lost)"


class Neighbor(View):
    """One near example."""

    id: str
    similarity: float  # cosine, 1 is the same direction
    source: str
    preview: str
    position: int


class Neighbors(View):
    """The nearest members of a version, most alike first."""

    id: str
    within: str
    tag: str | None
    by: str  # what the vectors are, in words
    compared: int
    of: int
    neighbors: tuple[Neighbor, ...]


def neighbors(store: Store, example: str, within: DatasetRef | str, *, count: int = 12) -> Neighbors:
    """The members of a version that read most like an example, which need not be in it.

    Raises ``MissingDataset`` for an unknown example, and for one without a vector among cached ones.
    """
    reader = Reader(store)
    ref = store.resolve(within) if isinstance(within, str) else within
    with legible(f"what reads like {example[:40]}"):
        place, _ = find_example(reader, example, None)
        (own,) = reader.examples([(place.home, place.row)], ("messages",))
        held = vectors_of(reader, ref)
        mine = held.of(own)
        if mine is None:
            raise MissingDataset(f"the vectors of {ref} do not know example {place.id.hex()[:12]}, which is not in it")
        likeness = held.rows @ mine
        best = np.argsort(-likeness, kind="stable")[: count + 20]
        where = places(reader, ref)
        found: list[Neighbor] = []
        for start in range(0, len(best), count + 2):  # a few more than are shown: itself, and repeats of a mixture
            some = best[start : start + count + 2]
            there = _at(where, held.at[some])
            rows_ = reader.examples(there, ("id", "source", "messages"))
            for place_, row, i in zip(there, rows_, some.tolist(), strict=True):
                again = any(row["id"].hex() == one.id for one in found)
                if place_ == (place.home, place.row) or again or len(found) >= count:
                    continue
                found.append(
                    Neighbor(
                        id=row["id"].hex(),
                        similarity=round(float(likeness[i]), 4),
                        source=row["source"] or "",
                        preview=preview(text_of(row["messages"]), 160),
                        position=int(held.at[i]),
                    )
                )
            if len(found) >= count:
                break
    return Neighbors(
        id=place.id.hex(),
        within=str(ref),
        tag=tag_of(reader, ref, prefer=within if isinstance(within, str) else None),
        by=held.by,
        compared=len(held.at),
        of=len(where),
        neighbors=tuple(found),
    )


def text_of(messages: Sequence[Mapping[str, str]] | None) -> str:
    """What is compared: the turns but the system's, one after the other, at most 2,000 characters."""
    told = "\n".join(turn["content"] or "" for turn in messages or () if turn["role"] != "system")
    return told[:_CHARACTERS]


def _at(where: Places, at: Array) -> list[tuple[DatasetRef, int]]:
    some = where.at(at)
    return [(some.homes[home], int(row)) for home, row in zip(some.home, some.row, strict=True)]


def spread(rows: int) -> Array:
    """Positions that are compared: all of a small version, stretches of a large one."""
    if rows <= MOST:
        return np.arange(rows)
    starts = np.linspace(0, rows - MOST // STRETCHES, STRETCHES).astype(np.int64)
    return (starts[:, None] + np.arange(MOST // STRETCHES)).ravel()


@lru_cache(maxsize=1)
def _engine() -> StaticEngine:
    return Static().open()


class Vectors:
    """Unit vectors of some members of a version, and how to lay another example beside them."""

    def __init__(
        self, at: Array, rows: Array, by: str, of: Callable[[Mapping[str, Any]], Array | None], told: Told = ()
    ) -> None:
        self.told = told  # id, source and beginning of each, of static vectors alone
        self.at = at  # positions
        self.rows = rows  # float32, one row each
        self.by = by
        self.of = of  # an example's own vector, None if it has none


def vectors_of(reader: Reader, ref: DatasetRef) -> Vectors:
    """What members of the version are compared by, worked out once."""
    manifest = reader.manifest(ref)
    key = (str(reader.store.root), manifest.commit_id, "vectors")
    held: dict[str, Any] | None = arrays.get(key)
    if held is None:
        if any("embed" in step.step.backends for step in reader.store.upstream(ref)):
            at, examples = _some_members(reader, manifest, ("messages",))
            found = _cached(reader, ref, [example["messages"] for example in examples])
            held = {"at": at, "rows": found[0], "by": found[1], "key": found[2]} if found else None
        held = held or {**_static(reader, manifest), "by": STATIC, "key": None}
        arrays.keep(key, held)
    cached: tuple[bytes, str] | None = held["key"]

    def own(example: Mapping[str, Any]) -> Array | None:
        if cached is None:
            return _engine().embed([text_of(example["messages"])])[0]
        return _lookup(reader, cached[0], [_side(example["messages"], cached[1])])[0]

    return Vectors(held["at"], held["rows"], held["by"], own)


def static_vectors(reader: Reader, ref: DatasetRef) -> Vectors:
    """The same by the shipped table of words, which knows any text."""
    kept = _static(reader, reader.manifest(ref))
    of = lambda one: _engine().embed([text_of(one["messages"])])[0]  # noqa: E731
    return Vectors(kept["at"], kept["rows"], STATIC, of, kept["told"])


def _static(reader: Reader, manifest: Manifest) -> dict[str, Any]:
    """Vectors of the members that are compared, by the shipped table of words, and what is shown of each."""

    def work() -> dict[str, Any]:
        at, examples = _some_members(reader, manifest, ("id", "source", "messages"))
        told = [(one["id"].hex(), one["source"] or "", begins(one["messages"])) for one in examples]
        return {"at": at, "rows": _engine().embed([text_of(one["messages"]) for one in examples]), "told": told}

    key = (str(reader.store.root), manifest.commit_id, "static-vectors")
    return arrays.of(key, lambda: lasting(reader, (manifest,), key[1:], work))


def begins(messages: Sequence[Mapping[str, Any]] | None) -> str:
    """The beginning of a conversation: of its first turn that is not the system's."""
    spoken = next((turn["content"] for turn in messages or () if turn["role"] != "system"), "")
    return preview(spoken or "", BEGINS)


def _some_members(reader: Reader, manifest: Manifest, columns: Sequence[str]) -> tuple[Array, list[Any]]:
    """Positions that are compared, and the examples there.

    A published copy lies in member order; of any other version the stretches are taken where its examples lie, because
    neighbours of a shuffled order are everywhere, and each would cost a row group.
    """
    at = spread(manifest.counts.rows_out)
    if reader.has(manifest.ref, "train"):
        return at, reader.rows(manifest.ref, "train", at.tolist(), columns).to_dicts()
    where = places(reader, manifest.ref)
    lies = (where.home.astype(np.uint64) << np.uint64(32)) | where.row
    if bool((lies[1:] < lies[:-1]).any()):
        at = np.argsort(lies, kind="stable")[at]
    some = where.at(at)
    return at, reader.examples([(some.homes[h], int(r)) for h, r in zip(some.home, some.row, strict=True)], columns)


def _cached(reader: Reader, ref: DatasetRef, messages: Sequence[Any]) -> tuple[Array, str, tuple[bytes, str]] | None:
    """Vectors that a run left for enough of these conversations: of their prompts, or of their answers."""
    for manifest in reversed(reader.store.upstream(ref)):
        backend = manifest.step.backends.get("embed")
        if not isinstance(backend, Mapping) or not messages:
            continue
        identity = identity_text(backend).encode()
        for side in ("prompt", "answer"):
            found = _lookup(reader, identity, [_side(one, side) for one in messages])
            known = [vector for vector in found if vector is not None]
            if len(known) < ENOUGH * len(messages):
                continue
            blank = np.zeros_like(known[0])
            told = f"{backend.get('backend', 'the embedder')} vectors of the {side}s, as {manifest.ref} left them"
            return np.stack([blank if one is None else one for one in found]), told, (identity, side)
    return None


def _side(messages: Sequence[Mapping[str, str]] | None, side: str) -> str:
    """The text that a method embeds: the first question, or the last answer, of at most 2,000 characters."""
    roles = {"prompt": "user", "answer": "assistant"}
    told = [turn["content"] or "" for turn in messages or () if turn["role"] == roles[side]]
    return ((told[0] if side == "prompt" else told[-1]) if told else "")[:_CHARACTERS]


def _lookup(reader: Reader, identity: bytes, texts: Sequence[str]) -> list[Array | None]:
    """Vectors out of the run's cache, which is only read; None for what it does not hold."""
    path = (reader.store.root / "vectors.sqlite").resolve()
    if not path.exists():
        return [None] * len(texts)
    keys = [digest16(identity + b"\x1f" + text.encode("utf-8", "surrogatepass")) for text in texts]
    found: dict[bytes, Array] = {}
    try:
        file = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            for start in range(0, len(keys), 500):
                some = keys[start : start + 500]
                asked = f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(some))})"
                found.update(
                    (key, np.frombuffer(vector, dtype=np.float32)) for key, vector in file.execute(asked, some)
                )
        finally:
            file.close()
    except sqlite3.Error:
        return [None] * len(texts)  # a cache: without it the shipped table answers, and says so
    return [found.get(key) for key in keys]
