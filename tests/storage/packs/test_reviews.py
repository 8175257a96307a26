"""The log of reviews: hits are shown beside their items, verdicts are durable, numbered, never replaced."""

import json
from pathlib import Path

import pytest

from schemas.errors import BadName, CorruptStore
from schemas.lineage import DatasetRef
from storage.packs.reviews import count, history, hits, record, reviews
from storage.store import Store
from tasks.reviewed import precision
from tests.seeded import Seeded, seeded


@pytest.fixture
def world(tmp_path: Path) -> Seeded:
    return seeded(tmp_path / "store")


def test_hits_are_found_from_the_step_and_from_what_was_made_from_it(world: Seeded) -> None:
    step = world.steps["decontaminate"]
    found = hits(world.store, step)
    assert [(h.rule, h.benchmark, h.item, h.fate) for h in found] == [
        ("benchmark-match", "gsm8k", "42", "reject"),
        ("benchmark-match", "gsm8k", "42", "keep"),
        ("benchmark-match", "gsm8k", "7", "reject"),
    ]
    assert [h.position for h in found] == [3, 6, 11]
    assert hits(world.store, world.v1) == found
    assert found[0].text[slice(*found[0].text_spans[0])] == "Question"
    assert found[0].item_text is None, "the toy pack's digest is not that of the shipped one"
    pool = dict(world.store.describe(step).step.inputs)["pool"]
    assert found[0].example == world.store.pool(pool)["id"][3].hex()


def test_pages_and_selections_of_hits(world: Seeded) -> None:
    every = hits(world.store, world.v1)
    assert hits(world.store, world.v1, offset=1, limit=1) == every[1:2]
    assert hits(world.store, world.v1, offset=5) == []
    assert hits(world.store, world.v1, benchmark="mmlu") == []
    assert hits(world.store, world.v1, rule="benchmark-match") == every
    assert count(world.store, world.v1).rows() == [(str(world.steps["decontaminate"]), "benchmark-match", "gsm8k", 3)]


def test_a_verdict_is_recorded_once_and_a_change_of_mind_is_a_new_entry(world: Seeded) -> None:
    hit = hits(world.store, world.v1)[0]
    first = record(world.store, hit, "accept", who="ada", reason="word for word")
    assert record(world.store, hit, "accept", who="ada", reason="word for word") == first
    second = record(world.store, hit, "reject", who="ada", reason="a common phrase")
    assert (first.number, second.number) == (1, 2)
    reopened = Store.open(world.store.root, create=False)
    assert history(reopened, hit) == [first, second]
    assert [r.verdict for r in reviews(reopened, world.v1)] == ["reject"]
    assert hits(reopened, world.v1)[0].review == second
    assert [h.key for h in hits(reopened, world.v1, unreviewed=True)] == [h.key for h in hits(reopened, world.v1)[1:]]
    assert reopened.verify() == []


def test_precision_is_of_the_reviewed_hits_only(world: Seeded) -> None:
    before = precision(world.store, world.v1)
    assert [(p.hits, p.reviewed, p.precision, p.low, p.high) for p in before] == [(3, 0, None, 0.0, 1.0)]
    one, two, _ = hits(world.store, world.v1)
    record(world.store, one, "accept", who="ada")
    record(world.store, two, "reject", who="bob", reason="only the preamble")
    (after,) = precision(world.store, world.v1)
    assert (after.hits, after.reviewed, after.accepted, after.precision) == (3, 2, 1, 0.5)
    assert (round(after.low, 4), round(after.high, 4)) == (0.0945, 0.9055)  # Wilson, 1 of 2


def test_what_is_refused(world: Seeded) -> None:
    hit = hits(world.store, world.v1)[0]
    with pytest.raises(BadName, match="who reviewed"):
        record(world.store, hit, "accept", who=" ")
    with pytest.raises(BadName, match="at most 2,000"):
        record(world.store, hit, "accept", who="ada", reason="x" * 2001)


def test_a_damaged_or_misplaced_entry_is_named(world: Seeded) -> None:
    one, two, _ = hits(world.store, world.v1)
    review = record(world.store, one, "accept", who="ada")
    ref = DatasetRef.parse(one.step)
    folder = world.store.root / "reviews" / ref.stage / ref.fingerprint
    (folder / f"{two.key}@00000001.json").write_text(json.dumps(review.model_dump()), encoding="utf-8")
    with pytest.raises(CorruptStore, match="speaks of another hit"):
        reviews(world.store, world.v1)
    (folder / f"{two.key}@00000001.json").write_text("{", encoding="utf-8")
    with pytest.raises(CorruptStore, match="is no review"):
        reviews(world.store, world.v1)


def test_hostile_names_lead_nowhere(tmp_path: Path) -> None:
    world = seeded(tmp_path / "store", hostile="/../../../x'; <script>\u202e")
    hit = hits(world.store, world.v1)[0]
    record(world.store, hit, "accept", who="../ada\x1b[2J", reason="\u202e")
    kept = list((world.store.root / "reviews").rglob("*.json"))
    assert [p.name for p in kept] == [f"{hit.key}@00000001.json"]
    assert reviews(world.store, world.v1)[0].who == "../ada\x1b[2J"
