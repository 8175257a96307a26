"""Damage of every kind is found, named with its place, and takes nothing else down."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import CorruptStore
from schemas.lineage import Manifest
from storage import manifests
from storage.layout import manifest_path
from storage.questions.health import health
from storage.store import Store
from storage.verify import Finding
from tests.storage.making import answers, ingest, keep_where


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def chain(store: Store) -> tuple[Manifest, Manifest, Manifest]:
    """An ingested version, a filter of it, and a version that has nothing to do with them."""
    base = ingest(store, ["a", "bbb", "cc"])
    kept = keep_where(store, base.ref, [False, True, False])
    other = ingest(store, ["zzz"], "other")
    store.tag("demo", kept.ref)
    assert store.verify() == []
    return base, kept, other


def edited(store: Store, manifest: Manifest, change: Callable[[dict[str, Any]], None], *, reseal: bool = False) -> None:
    """Changes a manifest on disk as someone with an editor would; with ``reseal`` as someone who knows the seal."""
    path = manifest_path(store.root, manifest.ref)
    content = json.loads(path.read_text())
    change(content)
    if reseal:
        seals = [store.describe(origin).seal for origin in manifests.origins(manifest)]
        content["seal"] = manifests.seal_of(content, seals)
    path.write_text(json.dumps(content))


def problems(findings: list[Finding], manifest: Manifest) -> list[str]:
    return [finding.problem for finding in findings if finding.place.startswith(str(manifest.ref))]


def test_a_truncated_object_is_found_without_reading_it(store: Store, chain) -> None:
    base, _kept, other = chain
    (path,) = store.paths(base.ref, "examples")
    path.write_bytes(path.read_bytes()[:-1])
    (finding,) = store.verify(base.ref, deep=False)
    assert finding.place == f"{base.ref}: part examples: {path}"
    assert finding.problem.endswith(f"the manifest says {base.parts['examples'][0].size_bytes}")
    assert finding.way_out.startswith("restore it from a copy, or remove ")
    assert store.verify(other.ref) == []
    assert answers(store.pool(other.ref)) == ["zzz"]


def test_an_object_that_is_gone_is_found(store: Store, chain) -> None:
    base, kept, _other = chain
    store.paths(kept.ref, "verdicts/pool")[0].unlink()
    assert problems(store.verify(deep=False), kept) == ["the object is gone"]
    assert problems(store.verify(), base) == []
    assert answers(store.pool(kept.ref)) == ["bbb"], "members and examples are still there"


def test_an_object_with_other_bytes_of_the_same_length_is_found_by_its_digest(store: Store, chain) -> None:
    base, _kept, _other = chain
    (path,) = store.paths(base.ref, "examples")
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    (problem,) = problems(store.verify(base.ref), base)
    assert problem.startswith("the object's bytes have the digest ")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_single_bit_of_an_object_can_flip_unnoticed(store: Store, where: float, bit: int) -> None:
    base = ingest(store, ["a", "bbb", "cc"])
    (path,) = store.paths(base.ref, "examples")
    sound = path.read_bytes()
    at = int(where * len(sound))
    path.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << bit)]) + sound[at + 1 :])
    try:
        assert problems(store.verify(base.ref), base) != []
        with suppress(CorruptStore):  # or the flip is where reading does not look; never another error
            store.pool(base.ref)
    finally:
        path.write_bytes(sound)
    assert store.verify() == []


def test_an_object_that_was_swapped_for_another_sound_one_is_found(store: Store, chain) -> None:
    base, _kept, other = chain
    mine, foreign = store.paths(base.ref, "examples")[0], store.paths(other.ref, "examples")[0]
    mine.write_bytes(foreign.read_bytes())
    assert len(problems(store.verify(base.ref), base)) == 1


EDITS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("a count", lambda m: m["counts"].update(created=2)),
    ("a reason", lambda m: m["reasons"].update({"too-short": 1})),
    ("a summary", lambda m: m["summary"].update(tokens=5)),
    ("who ran it", lambda m: m["run"].update(git="other")),
    ("a commit id", lambda m: m.update(commit_id="0" * 32)),
    ("determinism", lambda m: m.update(nondeterministic=True)),
]


@pytest.mark.parametrize(("what", "change"), EDITS, ids=[what for what, _ in EDITS])
def test_an_edited_manifest_breaks_its_seal(store: Store, chain, what: str, change) -> None:
    _base, kept, other = chain
    edited(store, kept, change)
    assert any(
        "was changed after its commit" in problem for problem in problems(store.verify(kept.ref, deep=False), kept)
    )
    assert problems(store.verify(), other) == []


def test_counts_that_were_edited_and_sealed_again_are_found_by_counting_anew(store: Store, chain) -> None:
    _base, kept, _other = chain
    edited(store, kept, lambda m: m["counts"]["inputs"][0].update(kept=2, rejected=1), reseal=True)
    (problem,) = problems(store.verify(kept.ref, deep=False), kept)
    assert problem.startswith("the manifest says counts ")
    assert "kept=1, rejected=2" in problem.split("the parts say")[1]


def test_an_upstream_manifest_that_was_edited_and_sealed_again_shows_below(store: Store, chain) -> None:
    base, kept, _other = chain
    edited(store, base, lambda m: m["run"].update(git="other"), reseal=True)
    assert problems(store.verify(), base) == []
    (problem,) = problems(store.verify(), kept)
    assert problem == "the manifest, or that of a version it was made from, was changed after its commit"


def test_a_part_list_that_was_edited_does_not_match_its_digest(store: Store, chain) -> None:
    _base, kept, _other = chain
    edited(store, kept, lambda m: m["parts"].update(members=[]), reseal=True)
    assert "the digest over its parts does not match its parts" in problems(store.verify(kept.ref), kept)


def test_members_that_break_conservation_are_found_even_if_every_digest_fits(store: Store, chain) -> None:
    _base, kept, _other = chain
    draft = store.draft(kept.step)
    draft.put("members", pl.DataFrame({"home": [0], "row": [0]}))
    parts = {**kept.parts, "members": tuple(draft.parts["members"])}
    plain = {name: [part.model_dump() for part in objects] for name, objects in parts.items()}
    edited(store, kept, lambda m: m.update(parts=plain, digest=manifests.digest_of(parts)), reseal=True)
    (problem,) = problems(store.verify(kept.ref), kept)
    assert "member 0 is not the example that the verdicts leave there" in problem
    assert health(store).troubles == (), "a page that shows files and manifests reads no rows"
    assert problem in [one.problem for one in health(store, "structure").troubles]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no manifest"),
        (b'{"format": 1}', "is no manifest"),
        (b"[" * 100_000, "is no manifest"),
        (b'{"format": 2}', "has format 2, this release reads up to 1"),
        (b"\xff\xfe", "is no manifest"),
    ],
    ids=["empty", "not ours", "deep", "newer", "no text"],
)
def test_a_file_that_is_no_manifest_takes_nothing_else_down(store: Store, chain, data: bytes, words: str) -> None:
    base, kept, other = chain
    path = manifest_path(store.root, other.ref)
    path.write_bytes(data)
    (finding,) = store.verify()
    assert finding.place == str(other.ref)
    assert words in finding.problem
    assert finding.way_out == f"remove {path} and run its recipe again"
    assert [m.ref for m in store.versions()] == [base.ref, kept.ref]
    assert answers(store.pool(kept.ref)) == ["bbb"]
    assert [m.ref for m in store.downstream(base.ref)] == [base.ref, kept.ref]


def test_the_way_out_of_a_damaged_version_works(store: Store, chain) -> None:
    _base, _kept, other = chain
    store.paths(other.ref, "examples")[0].unlink()
    (finding,) = store.verify()
    Path(finding.way_out.split("remove ")[1].removesuffix(" and run its recipe again")).unlink()
    ingest(store, ["zzz"], "other")
    assert store.verify() == []


def test_a_version_whose_source_is_gone_says_so(store: Store, chain) -> None:
    base, kept, _other = chain
    manifest_path(store.root, base.ref).unlink()
    assert f"{base.ref}, which it was made from, is gone or damaged" in problems(store.verify(), kept)


def test_a_tag_with_a_gap_or_without_its_version_is_found(store: Store, chain) -> None:
    base, _kept, other = chain
    store.tag("demo", base.ref)
    store.tag("demo", other.ref)
    (store.root / "tags" / "demo" / "@00000002.json").unlink()
    manifest_path(store.root, other.ref).unlink()
    found = {finding.place: finding.problem for finding in store.verify()}
    assert found["tag demo"] == "version v2 is gone from its log"
    assert found["tag demo@v3"] == f"{other.ref} is gone"
    (store.root / "tags" / "demo" / "@00000003.json").write_text("{}")
    assert any("is no tag entry" in finding.problem for finding in store.verify())


def test_a_manifest_of_another_step_under_this_name_is_corrupt(store: Store, chain) -> None:
    _base, kept, _other = chain
    edited(store, kept, lambda m: m["step"]["method"].update(at_least=2))
    with pytest.raises(CorruptStore, match=r"describes filter@.*, not filter@.*; remove that file"):
        store.describe(kept.ref)
