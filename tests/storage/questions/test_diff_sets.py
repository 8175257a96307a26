"""`diff` against the slow way: sets of ids, and every drop looked up id by id; sources read anew, edits, repeats."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.lineage import DatasetRef, Rule, Step
from storage.layout import EDIT, QUARANTINE, REJECT
from storage.questions.absent import NOT_THERE, NOT_USED, SHOWN
from storage.questions.diff import Diff, diff
from storage.questions.remembered import arrays
from storage.store import Store
from tests.seeding import Builder
from tests.storage.making import examples

LOW = Rule(name="low", says="the score is low", threshold=0.5, direction="keep-above")
TIDY = Rule(name="tidy", says="the answer lacks its end")
ODD = Rule(name="odd", says="it is odd")
TEXTS = [f"answer {i}" for i in range(14)]

chosen = st.sets(st.integers(0, 13))
side = st.fixed_dictionaries(
    {
        "notes": st.integers(0, 1),
        "low": chosen,
        "tidy": chosen,
        "odd": chosen,
        "held": chosen,
        "repeats": st.integers(0, 3),
    }
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(before=side, after=side)
def test_sets_of_places_say_what_sets_of_ids_say(before: dict[str, Any], after: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        build = Builder(store, "")
        notes = [_ingest(store, "notes", TEXTS[4:12]), _ingest(store, "notes", TEXTS[:9])]  # read anew, grown and cut
        other = _ingest(store, "other", TEXTS[:5])
        refs = [_curated(build, notes[one["notes"]], other, one) for one in (before, after)]
        arrays.clear()
        _is_what_ids_say(store, diff(store, refs[0], refs[1]), refs[0], refs[1])
        _is_what_ids_say(store, diff(store, refs[1], refs[0]), refs[1], refs[0])
        _is_what_ids_say(store, diff(store, notes[0], notes[1]), notes[0], notes[1])


def _ingest(store: Store, name: str, texts: Sequence[str]) -> DatasetRef:
    draft = store.draft(Step(stage="ingest", method={"source": name}, content={"sha256": f"{texts}"}))
    draft.homes = [draft.step.output]
    draft.put("examples", examples(texts, name))
    return store.commit(draft).ref


def _curated(build: Builder, notes: DatasetRef, other: DatasetRef, plan: dict[str, Any]) -> DatasetRef:
    """Gathered, filtered by a score, edited, filtered again with some held back, mixed with repeats."""
    pool = build.gather({"notes": notes, "other": other})
    rows = build.store.describe(pool).counts.rows_out
    fates = {at: REJECT for at in plan["low"] if at < rows}
    scores: list[float | None] = [0.5 - at / 100 if at in fates else 0.5 + at / 100 for at in range(rows)]
    pool = build.judge("filter", {"method": "low", "of": sorted(plan["low"])}, pool, fates, rule=LOW, scores=scores)
    rows = build.store.describe(pool).counts.rows_out
    edits = {at: EDIT for at in plan["tidy"] if at < rows}
    pool = build.judge("filter", {"method": "tidy"}, pool, edits, rule=TIDY, side={"asked": _plan(build, plan["tidy"])})
    rows = build.store.describe(pool).counts.rows_out
    fates = {at: REJECT for at in plan["odd"] if at < rows} | {at: QUARANTINE for at in plan["held"] if at < rows}
    pool = build.judge("filter", {"method": "odd", "of": sorted(fates.items())}, pool, fates, rule=ODD)
    rows = build.store.describe(pool).counts.rows_out
    return build.mix(pool, min(plan["repeats"], rows)) if rows else pool


def _plan(build: Builder, tidy: set[int]) -> DatasetRef:
    """A side input that sets two editing steps of one method apart: the same edit then has the same id in both."""
    return _ingest(build.store, "plan", [f"{at}" for at in sorted(tidy)] or ["none"])


def _ids(store: Store, ref: DatasetRef) -> list[bytes]:
    return store.pool(ref)["id"].to_list()


def _is_what_ids_say(store: Store, found: Diff, before: DatasetRef, after: DatasetRef) -> None:
    old, new = set(_ids(store, before)), set(_ids(store, after))
    gone, came = old - new, new - old
    kin = _kin(store, before) | _kin(store, after)
    families = Counter(kin.get(one, one) for one in gone) & Counter(kin.get(one, one) for one in came)
    assert found.edited == families.total()
    assert (found.removed, found.added) == (len(gone) - found.edited, len(came) - found.edited)
    assert found.common == len(old & new)
    assert [(count.before, count.after) for count in found.counts][1] == (len(old), len(new))
    paired = [{one for one in some if families[kin.get(one, one)]} for some in (gone, came)]
    assert _told(found.why_removed) == _reasons(store, gone - paired[0], after)
    assert _told(found.why_added) == _reasons(store, came - paired[1], before)
    for why, some, held in ((found.why_removed, gone, old), (found.why_added, came, new)):
        shown = [bytes.fromhex(row.id) for one in why for row in one.some]
        assert len(shown) == len(set(shown)) == sum(min(SHOWN, one.rows) for one in why)
        assert set(shown) <= some & held


def _kin(store: Store, ref: DatasetRef) -> dict[bytes, bytes]:
    """What each edited example was edited from."""
    found: dict[bytes, bytes] = {}
    for step in store.upstream(ref):
        if step.parts.get("links"):
            own = store.part(step.ref, "examples")["id"]
            for row in store.part(step.ref, "links").to_dicts():
                (parent,) = row["parents"]
                held = store.part(step.homes[parent["home"]], "examples")["id"]
                found[own[row["row"]]] = held[parent["row"]]
    return found


def _told(why: Sequence[Any]) -> Counter[tuple[str | None, str | None, str]]:
    return Counter({(one.ref, one.rule, "" if one.ref else one.says): one.rows for one in why})


def _reasons(store: Store, ids: set[bytes], target: DatasetRef) -> Counter[tuple[str | None, str | None, str]]:
    """The first step on the way to the target that dropped each id."""
    known: set[bytes] = set()
    dropped: dict[bytes, tuple[str, str]] = {}
    for step in store.upstream(target):
        known |= set(store.part(step.ref, "examples")["id"])
        for role, ref in step.step.inputs:
            if f"verdicts/{role}" in step.parts:
                told = store.part(step.ref, f"verdicts/{role}").with_columns(pl.Series("id", _ids(store, ref)))
                for row in told.filter(pl.col("fate").is_in([REJECT, QUARANTINE])).to_dicts():
                    dropped.setdefault(row["id"], (str(step.ref), step.rules[row["rule"] - 1].name))
    return Counter(
        (*dropped[one], "") if one in dropped else (None, None, NOT_USED if one in known else NOT_THERE) for one in ids
    )
