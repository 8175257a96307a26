"""Semantic dedup reads its texts in batches and says, byte for byte, what the rules say of texts held in memory."""

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest

from backends.embed.hashing import Hashing
from methods import spill
from methods.dedup._listing import Listing
from methods.dedup._repeats import text_compared
from methods.dedup.semantic import Semantic
from methods.keyed import drawn_seed
from methods.points.kmeans import kmeans
from methods.streamed import in_slices
from schemas.errors import InvariantViolation
from schemas.examples import turns
from schemas.method import Using
from tests.methods._pools import pool_of, rng

ENGINE = Hashing(dim=24, ngram=0).open()
KEEPS: dict[str, dict[str, Any]] = {
    "first": {}, "longest": {}, "longest-answer": {}, "best-source": {"source_priority": ("b", "c")}, "least-synthetic": {},
    "highest-field": {"keep_field": "meta.score"}, "outermost": {},
}  # fmt: skip


def made_pool(count: int = 150) -> pl.DataFrame:
    """Texts of few words in any order: equal, alike, in chains, blank or null, of three sources, some with another answer."""
    chance = np.random.default_rng(7)
    words = np.array(
        ["river", "lake", "stone", "green", "long", "cold", "quiet", "deep", "north", "fish", "boat", "rain"]
    )
    stock = [" ".join(words[chance.permutation(12)[: chance.integers(6, 11)]]) for _ in range(12)]
    said: list[Any] = []
    for row in range(count):
        text = stock[chance.integers(len(stock))]
        if row % 5:
            text += " " + " ".join(words[chance.integers(12, size=chance.integers(1, 3))])
        said.append(
            (f"Tell me {stock[row % 3][:9]}", ["", " \u200b\n", "\u2066\ufe0f"][row % 3] if row % 17 == 0 else text)
        )
    blank: Any = [("user", " "), ("assistant", None)]
    said[3], said[40] = blank, [("system", "Be brief."), *blank]
    worse = [turns(("assistant", "something else")) if row % 11 == 0 else None for row in range(count)]
    return pool_of(*said, source=[str(s) for s in chance.choice(["a", "b", "c"], count)], worse=worse).with_columns(
        synthetic_depth=pl.Series(chance.integers(0, 3, count), dtype=pl.UInt8),
        extra=pl.Series([None if row % 4 else json.dumps({"meta": {"score": row % 7}}) for row in range(count)]),
    )


POOL = made_pool()


def judged(method: Semantic, batch: int) -> pl.DataFrame:
    said = method.judge_batches(lambda: POOL.iter_slices(batch), POOL.height, using=Using(_embed=ENGINE), rng=rng(3))
    return pl.concat(said)


def in_memory(method: Semantic) -> list[tuple[str | None, float | None, dict[str, Any] | None]]:
    """Reason, score and evidence of each row by the rules of the class, as loops over texts and full cosines."""
    texts = POOL.select(text_compared(method.on).alias("text"))["text"].to_list()
    listing = Listing(POOL.height)
    for _ in method.listed(in_slices(POOL), listing):
        pass
    ids, sources = POOL["id"].to_list(), POOL["source"].to_list()
    numbers, rows = dict[tuple[str, str], int](), list[int]()
    number = [-1] * POOL.height
    for row in map(int, listing.best_first()):
        if any(letter.isprintable() and letter not in " \ufe0f" for letter in texts[row] or ""):
            key = (texts[row], "" if method.scope == "anywhere" else sources[row])
            if key not in numbers:
                numbers[key] = len(rows)
                rows.append(row)
            number[row] = numbers[key]
    vectors = ENGINE.embed([texts[row] for row in rows])
    label = np.zeros(len(rows), dtype=np.int64)
    if method.clusters or method.keep == "outermost":
        found = kmeans(vectors, max(1, method.clusters), np.random.default_rng(drawn_seed(rng(3))))
        label = found.label
        if method.keep == "outermost":
            order = np.argsort(np.round(found.cosine, 6), kind="stable").tolist()
            number = [-1 if n < 0 else order.index(n) for n in number]
            rows, vectors, label = [rows[i] for i in order], vectors[order], label[order]
    home, near = homes(method, vectors.astype(np.float64), label.tolist(), [sources[row] for row in rows])
    said: list[tuple[str | None, float | None, dict[str, Any] | None]] = []
    for row, n in enumerate(number):
        end = n
        while n >= 0 and home[end] != end:
            end = home[end]
        stays = n < 0 or (home[n] == n if method.scope == "across-sources" else row == rows[end])
        if stays:
            said.append((None, None, None))
            continue
        similar = near[n] if end in (n, home[n]) else cosines(vectors.astype(np.float64), n)[end]
        evidence: dict[str, Any] = {"on": method.on, "repeats": ids[rows[end]].hex(), "similarity": float(similar)}
        score = similar
        if end not in (n, home[n]) and similar < method.threshold:
            evidence |= {"via": ids[rows[home[n]]].hex(), "via_similarity": float(near[n])}
            score = max(similar, near[n])
        said.append(("semantic-duplicate", float(score), evidence))
    return said


def cosines(wide: np.ndarray, one: int) -> np.ndarray:
    return np.round((wide * wide[one]).sum(axis=1), 6)


def homes(
    method: Semantic, wide: np.ndarray, label: Sequence[int], sources: list[str]
) -> tuple[list[int], list[float]]:
    """Whom each repeats, and how alike the two are, best first."""
    home, near = list(range(len(wide))), [1.0] * len(wide)
    for i in range(len(wide)):
        cosine = cosines(wide, i).tolist()
        alike = [
            j for j in range(i)
            if cosine[j] >= method.threshold and label[i] == label[j]
            and (method.chains == "collapse" or home[j] == j)
            and (method.scope != "within-source" or sources[i] == sources[j])
            and (method.scope != "across-sources" or sources[i] != sources[j])
        ]  # fmt: skip
        if alike:
            closest = max((cosine[j], -j) for j in alike)
            home[i] = alike[0] if method.chains == "collapse" else -closest[1]
            near[i] = cosine[home[i]]
    return home, near


CASES = [
    (keep, scope, chains, clusters)
    for keep, scope, chains, clusters in product(
        KEEPS, ("anywhere", "within-source", "across-sources"), ("break", "collapse"), (0, 4)
    )
    if (scope, chains) != ("across-sources", "collapse")
]


@pytest.mark.parametrize(("keep", "scope", "chains", "clusters"), CASES)
def test_texts_in_batches_are_judged_as_texts_in_memory(keep: Any, scope: Any, chains: Any, clusters: int):
    method = Semantic(
        on="answer", keep=keep, scope=scope, chains=chains, clusters=clusters, threshold=0.9, **KEEPS[keep]
    )
    said = judged(method, 23)
    assert said["id"].to_list() == POOL["id"].to_list()
    found = [
        (r, s, None if e is None else json.loads(e)) for r, s, e in said.select("reason", "score", "evidence").rows()
    ]
    assert found == in_memory(method)
    assert 15 < said.filter(fate="reject").height < POOL.height - 15


@pytest.mark.parametrize("on", ["prompt", "answer", "both"])
def test_neither_the_batches_nor_a_file_nor_the_lists_of_texts_decide(on: Any, monkeypatch: pytest.MonkeyPatch):
    cases = [{}, {"keep": "outermost", "clusters": 3}, {"scope": "within-source"}, {"chains": "collapse"}]
    for fields in cases:
        method = Semantic(on=on, threshold=0.9, **fields)
        whole = method.judge(POOL, using=Using(_embed=ENGINE), rng=rng(3))
        with monkeypatch.context() as patch:
            patch.setattr("methods.spill.IN_MEMORY", 0)
            patch.setattr("methods.spill._TAKEN", 5)
            patch.setattr("methods.points.vectors._TEXTS", 7)
            patch.setattr("methods.dedup._equal_texts._ROWS", 11)
            patch.setattr("methods.dedup.semantic._ROWS", 13)
            patch.setattr("methods.dedup._cosines._BLOCK", 16)
            for size in (1, 40, 150):
                assert judged(method, size).equals(whole)


@pytest.mark.parametrize("threads", [1, 4])
def test_clusters_that_are_compared_beside_each_other_share_the_room_in_memory(
    threads: int, monkeypatch: pytest.MonkeyPatch
):
    method = Semantic(on="answer", threshold=0.9, clusters=3)
    whole = judged(method, 40)
    rooms: list[int | None] = []

    def noted(rows: np.ndarray, which: np.ndarray, in_memory: int | None = None) -> np.ndarray:
        rooms.append(in_memory)
        return spill.taken(rows, which, in_memory)

    monkeypatch.setattr("methods.parallel.cores", lambda: threads)
    monkeypatch.setattr("methods.dedup.semantic.taken", noted)
    monkeypatch.setattr(spill, "IN_MEMORY", 2000)
    assert judged(method, 40).equals(whole)
    assert rooms == [2000 // threads] * 3


def test_a_pool_that_gives_more_or_fewer_rows_than_it_has_is_refused():
    for told, stored in ((151, "gave only 150"), (149, "gave 150 or more")):
        with pytest.raises(InvariantViolation, match=stored):
            list(Semantic().judge_batches(in_slices(POOL), told, using=Using(_embed=ENGINE), rng=rng()))
