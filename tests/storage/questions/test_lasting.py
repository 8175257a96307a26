"""Answers that outlive a process: the same ones come back, and nothing that is damaged, of others or gone does."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.examples import EXAMPLES, turns
from schemas.identity import digest16
from schemas.lineage import DatasetRef, Step
from storage.questions import figures, lasting
from storage.questions.diff import diff
from storage.questions.lasting import Shelf, keep_in
from storage.questions.remembered import arrays
from storage.questions.rows import rows
from storage.questions.show import show
from storage.questions.views import Composition
from storage.seek import Reader
from storage.store import Store
from tests.seeded import TAG, Seeded, seeded

REF = DatasetRef.parse("filter@" + "ab" * 8)


@pytest.fixture
def world(tmp_path: Path) -> Seeded:
    return seeded(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where answers are kept; small ones too, which a small store's all are."""
    monkeypatch.setattr(lasting, "LEAST_SECONDS", 0.0)
    keep_in(tmp_path / "answers")
    yield tmp_path / "answers"
    keep_in(None)


def _forget() -> None:
    """What a fresh process does not know."""
    arrays.clear()
    figures.memory.clear()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


_ARRAYS = st.lists(st.integers(0, 255), max_size=40).flatmap(
    lambda some: st.sampled_from(["u1", "u2", "i8", "f4", "f8", "?"]).map(lambda kind: np.array(some, kind))
)
_PLAIN = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20) | st.just(REF) | _ARRAYS


@given(
    st.recursive(
        _PLAIN,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text(max_size=3) | st.just(REF), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_what_is_kept_comes_back_the_same(value: Any) -> None:
    told = b"".join(lasting._encoded("key", value))
    assert _same(lasting._decoded(told, "key"), value)


@given(st.data())
def test_no_damaged_byte_is_ever_answered(data: st.DataObject) -> None:
    held = (np.arange(9, dtype=np.float32), "some text", [True, None])
    told = bytearray(b"".join(lasting._encoded("key", held)))
    at, bit = data.draw(st.integers(0, len(told) - 1)), data.draw(st.integers(0, 7))
    told[at] ^= 1 << bit
    try:
        found = lasting._decoded(bytes(told), "key")
    except Exception:
        return
    assert _same(found, held)  # the byte was one of those that fill up to the next multiple of 64


def test_a_cut_file_and_another_questions_file_are_refused_and_removed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put("key", (np.arange(100),))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    assert shelf.get("key") is lasting._MISSING
    assert not file.exists()
    shelf._path("other").write_bytes(whole)
    assert shelf.get("other") is lasting._MISSING


def test_only_answers_of_this_program_are_made_from_a_file(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    one = Composition(source="web", license=None, synthetic_depth=0, rows=3)
    shelf.put("mine", (one,))
    assert shelf.get("mine") == (one,)
    shelf.put("foreign", (tmp_path,))  # a path is no answer: it is not kept
    assert shelf.get("foreign") is lasting._MISSING


def test_the_longest_unused_go_when_there_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "_WRITTEN_BETWEEN_SWEEPS", 1)
    monkeypatch.setattr(Shelf, "_sweep", lambda self: None)
    shelf = Shelf(tmp_path, most_bytes=3 * 1100)
    for number in range(5):
        shelf.put(str(number), np.arange(100, dtype=np.float64))
        os.utime(shelf._path(str(number)), (number, number))
    assert shelf.get("0") is not lasting._MISSING  # used now
    monkeypatch.undo()
    shelf._sweep()
    there = [number for number in range(5) if shelf._path(str(number)).exists()]
    assert 0 in there
    assert 1 not in there
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * 1100


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    shelf = Shelf(tmp_path / "file" / "answers")
    shelf.put("key", 1)
    assert shelf.get("key") is lasting._MISSING


def test_a_fresh_process_answers_from_what_an_earlier_one_kept_and_says_the_same(world: Seeded, folder: Path) -> None:
    _forget()
    tag = TAG
    first = show(world.store, tag), rows(world.store, tag, fate="dropped", order="margin")
    kept = sorted(path.name for path in folder.iterdir())
    assert kept
    _forget()
    again = show(world.store, tag), rows(world.store, tag, fate="dropped", order="margin")
    assert again == first
    assert sorted(path.name for path in folder.iterdir()) == kept  # nothing was worked out again
    keep_in(None)
    _forget()
    assert (show(world.store, tag), rows(world.store, tag, fate="dropped", order="margin")) == first


def two_versions(root: Path, *counts: int) -> Store:
    """A store whose tag `set` has a version of so many rows each; nothing was made of them."""
    store = Store.open(root)
    for count in counts:
        draft = store.draft(Step(stage="ingest", method={"source": f"{count} rows"}))
        ids = [digest16(str(i).encode()) for i in range(count)]
        said = [turns(("user", f"What is {i}?"), ("assistant", "A number.")) for i in range(count)]
        rows = {"id": ids, "content_hash": ids, "source": ["x"] * count, "messages": said}
        draft.put("examples", pl.DataFrame(rows, schema_overrides={"messages": EXAMPLES["messages"]}))
        draft.homes = [draft.step.output]
        store.tag("set", store.commit(draft).ref)
    return store


def test_a_comparison_of_one_store_is_not_that_of_another_with_the_same_names(tmp_path: Path, folder: Path) -> None:
    """A store that is removed and made anew at its place is another one, too."""
    one, other = two_versions(tmp_path / "one", 3, 5), two_versions(tmp_path / "other", 3, 9)
    assert diff(one, "set@v1", "set@v2").added == 2
    _forget()
    assert diff(other, "set@v1", "set@v2").added == 6
    assert len(list(folder.iterdir())) >= 2


def test_of_a_version_whose_objects_are_gone_nothing_is_taken_from_what_was_kept(world: Seeded, folder: Path) -> None:
    _forget()
    sound = show(world.store, TAG)
    assert not sound.damage
    judged = next(
        m for m in world.store.upstream(world.store.resolve(TAG)) if any(k.startswith("verdicts/") for k in m.parts)
        and figures.histograms(Reader(world.store), m)
    )  # fmt: skip
    name = next(k for k in judged.parts if k.startswith("verdicts/"))
    world.store.disk.object_path(judged.parts[name][0].sha256).unlink()
    _forget()
    keep_in(folder)  # as a fresh process does
    assert any(str(judged.ref) == one.place for one in show(world.store, TAG).damage)
