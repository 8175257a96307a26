"""The store's contract on real files: commit, read back, resolve, lineage, tags, shards."""

import json
import os
import stat
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from schemas.errors import BadName, CorruptStore, InvariantViolation, MissingDataset, NewerStore, StoreUnwritable
from schemas.examples import EXAMPLES
from schemas.lineage import DatasetRef, Part, Step
from storage.files.fs import LocalFileSystem
from storage.store import Store
from tests.storage.making import ODD, SHORT, answers, examples, filter_step, ingest, ingest_step, keep_where


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_what_was_committed_is_read_back_by_a_store_that_was_opened_anew(store: Store) -> None:
    made = ingest(store, ["a", "bb", "ccc"])
    again = Store.open(store.root, create=False)
    assert again.describe(made.ref) == made
    assert_frame_equal(again.pool(made.ref), examples(["a", "bb", "ccc"]))
    assert made.counts.created == made.counts.rows_out == 3
    assert made.run["committed_at"].endswith("+00:00")


def test_row_numbers_run_on_over_several_objects(store: Store) -> None:
    made = ingest(store, [f"answer {i}" for i in range(10)], batches=4)
    assert [part.rows for part in made.parts["examples"]] == [3, 3, 3, 1]
    kept = keep_where(store, made.ref, [i in (2, 3, 9) for i in range(10)])
    assert answers(store.pool(kept.ref)) == ["answer 2", "answer 3", "answer 9"]
    assert store.positions(kept.ref)["row"].to_list() == [2, 3, 9]


def test_a_chain_of_filters_counts_every_row_and_stores_no_example_twice(store: Store) -> None:
    first = ingest(store, ["a", "bbb", "cc", "dddd"])
    second = keep_where(store, first.ref, [False, True, True, True])
    third = keep_where(store, second.ref, [True, False, True], at_least=4)
    assert answers(store.pool(third.ref)) == ["bbb", "dddd"]
    assert "examples" not in second.parts
    assert "examples" not in third.parts
    assert third.homes == (first.ref,)
    (pool,) = third.counts.inputs
    assert (pool.rows, pool.kept, pool.rejected, third.counts.rows_out) == (3, 2, 1, 2)
    assert third.reasons == {"too-short": 1}


def test_edited_examples_stand_in_place_and_created_ones_at_the_end(store: Store) -> None:
    base = ingest(store, ["a", "bbb", "cc"])
    step = Step(stage="generate", method={"method": "rewrite", "version": 1}, inputs=(("pool", base.ref),))
    draft = store.draft(step)
    draft.homes = [base.ref, step.output]
    draft.rules = [SHORT, ODD]
    draft.put("examples", examples(["A!", "new"], "made"))
    verdict = {"fate": [2, 0, 3], "rule": [1, 0, 2], "successor": [0, None, None], "evidence": ["{}", None, None]}
    draft.put("verdicts/pool", pl.DataFrame(verdict))
    draft.put("links", pl.DataFrame({"row": [0, 1], "parents": [[{"home": 0, "row": 0}], [{"home": 0, "row": 2}]]}))
    draft.put("members", pl.DataFrame({"home": [1, 0, 1], "row": [0, 1, 1]}))
    made = store.commit(draft)
    assert answers(store.pool(made.ref)) == ["A!", "bbb", "new"]
    (pool,) = made.counts.inputs
    assert (pool.kept, pool.rejected, pool.edited, pool.quarantined) == (1, 0, 1, 1)
    assert (made.counts.created, made.counts.rows_out) == (1, 3)
    assert made.reasons == {"too-short": 1, "odd": 1}


def test_a_mixture_takes_any_order_and_counts_repeats(store: Store) -> None:
    left, right = ingest(store, ["a", "b"], "left"), ingest(store, ["x", "y"], "right")
    step = Step(stage="mix", method={"method": "caps"}, inputs=(("left", left.ref), ("right", right.ref)))
    draft = store.draft(step)
    draft.homes, draft.rules = [left.ref, right.ref], [SHORT]
    draft.put("verdicts/left", pl.DataFrame({"fate": [0, 1], "rule": [0, 1]}))
    draft.put("verdicts/right", pl.DataFrame({"fate": [0, 0], "rule": [0, 0]}))
    draft.put("members", pl.DataFrame({"home": [1, 0, 1, 0], "row": [1, 0, 0, 0]}))
    mixed = store.commit(draft)
    assert answers(store.pool(mixed.ref)) == ["y", "a", "x", "a"]
    assert (mixed.counts.repeats, mixed.counts.rows_out) == (1, 4)
    filtered = keep_where(store, mixed.ref, [False, True, True, True])
    assert answers(store.pool(filtered.ref)) == ["a", "x", "a"]
    assert [answers(batch) for batch in store.batches(filtered.ref, rows=2)] == [["a", "x"], ["a"]]


def test_a_rank_step_carries_the_members_of_its_pool_on(store: Store) -> None:
    base = ingest(store, ["a", "bb"])
    draft = store.draft(Step(stage="rank", method={"method": "length"}, inputs=(("pool", base.ref),)))
    draft.keep_members(base)
    draft.put("scores", pl.DataFrame({"score": [1.0, 2.0], "words": [1, 1]}))
    ranked = store.commit(draft)
    assert answers(store.pool(ranked.ref)) == ["a", "bb"]
    assert ranked.counts.inputs[0].passed_by
    assert store.part(ranked.ref, "scores").to_dict(as_series=False) == {"score": [1.0, 2.0], "words": [1.0, 1.0]}
    assert store.scan(ranked.ref, "refused").collect().height == 0


def test_committing_a_step_again_joins_the_first_result(store: Store) -> None:
    first = ingest(store, ["a", "b"])
    draft = store.draft(ingest_step())
    draft.nondeterministic = True
    draft.put("examples", examples(["something", "else", "entirely"]))
    second = store.commit(draft)
    assert second == first
    assert answers(store.pool(first.ref)) == ["a", "b"]
    assert len(list(store.versions())) == 1


def test_an_empty_version_can_be_committed_and_read(store: Store) -> None:
    base = ingest(store, [])
    kept = keep_where(store, base.ref, [])
    assert store.pool(kept.ref).schema == pl.Schema(dict(EXAMPLES))
    assert kept.counts.rows_out == 0


def test_lineage_lists_sources_first_and_what_was_made_from_a_version(store: Store) -> None:
    base, other = ingest(store, ["a", "bbb"]), ingest(store, ["zzz"], "other")
    kept = keep_where(store, base.ref, [False, True])
    more = keep_where(store, kept.ref, [True], at_least=9)
    assert [m.ref for m in store.upstream(more.ref)] == [base.ref, kept.ref, more.ref]
    assert [m.ref for m in store.downstream(base.ref)] == [base.ref, kept.ref, more.ref]
    assert [m.ref for m in store.versions()] == [base.ref, other.ref, kept.ref, more.ref]
    assert [m.ref for m in store.downstream(other.ref)] == [other.ref]


def test_lookup_says_none_and_describe_raises_for_a_step_that_never_finished(store: Store) -> None:
    missing = DatasetRef(stage="filter", fingerprint="0" * 16)
    store.tag("demo", ingest(store, ["a"]).ref)
    assert store.lookup(missing) is None
    with pytest.raises(MissingDataset, match=r"no dataset filter@0{16}; tags: demo; `provender ls`"):
        store.describe(missing)


def test_names_resolve_to_the_version_a_person_means(store: Store) -> None:
    first, second = ingest(store, ["a"], "one"), ingest(store, ["b"], "two")
    store.tag("team/demo", first.ref)
    store.tag("team/demo", second.ref, note="new data")
    assert store.resolve("team/demo") == second.ref
    assert store.resolve("team/demo@v1") == first.ref
    assert store.resolve(str(first.ref)) == first.ref
    assert store.resolve(f"ingest@{first.ref.fingerprint[:6]}") == first.ref
    with pytest.raises(MissingDataset, match="has no version v3; its newest is v2"):
        store.resolve("team/demo@v3")
    with pytest.raises(MissingDataset, match="has no tag 'dmeo'; tags: team/demo"):
        store.resolve("dmeo")
    with pytest.raises(BadName, match="is refused"):
        store.resolve("../../etc")


def test_a_tag_is_a_log_in_which_saying_the_same_twice_changes_nothing(store: Store) -> None:
    first, second = ingest(store, ["a"], "one"), ingest(store, ["b"], "two")
    assert store.tag("demo", first.ref, run_id="r1", recipe={"name": "demo"}).number == 1
    assert store.tag("demo", first.ref, run_id="r2").run_id == "r1"
    assert store.tag("demo", second.ref).number == 2
    assert store.tag("demo", first.ref).number == 3
    store.tag("demo/sub", second.ref)
    assert [version.ref for version in store.tag_history("demo")] == [first.ref, second.ref, first.ref]
    assert [(t.name, t.number) for t in store.tags()] == [("demo", 3), ("demo/sub", 1)]
    with pytest.raises(MissingDataset, match="cannot be tagged"):
        store.tag("demo", DatasetRef(stage="filter", fingerprint="0" * 16))


def test_the_first_receipt_of_a_shard_wins(store: Store) -> None:
    ref = ingest_step().output
    mine = Part(sha256="a" * 64, rows=1, size_bytes=2)
    assert store.put_shard(ref, 1, mine) == mine.model_dump()
    assert store.put_shard(ref, 1, {"sha256": "b" * 64}) == mine.model_dump()
    store.put_shard(ref, 0, {"rows": 5})
    assert store.shards(ref) == {0: {"rows": 5}, 1: mine.model_dump()}


def test_files_and_folders_of_a_store_are_private(store: Store) -> None:
    made = ingest(store, ["a"])
    for path in [store.root, *store.root.rglob("*")]:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert store.paths(made.ref, "examples")[0].exists()
    assert list((store.root / "tmp").iterdir()) == []


def test_a_folder_that_is_no_store_is_neither_opened_nor_filled(tmp_path: Path) -> None:
    with pytest.raises(MissingDataset, match="is no store"):
        Store.open(tmp_path / "absent", create=False)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreUnwritable, match=r"not empty \(it holds 'thesis.tex'\)"):
        Store.open(tmp_path)


def test_a_store_of_a_newer_release_is_refused(store: Store) -> None:
    (store.root / "FORMAT").write_text(json.dumps({"format": 2}))
    with pytest.raises(NewerStore, match="has format 2, this release reads up to 1; upgrade provender"):
        Store.open(store.root)


def test_a_damaged_format_file_is_corrupt_not_empty(store: Store) -> None:
    (store.root / "FORMAT").write_bytes(b"\0" * 20)
    with pytest.raises(CorruptStore, match="is damaged"):
        Store.open(store.root)


def test_a_draft_on_an_input_that_is_not_there_cannot_commit(store: Store) -> None:
    draft = store.draft(filter_step(DatasetRef(stage="ingest", fingerprint="0" * 16)))
    draft.put("members", pl.DataFrame({"home": [], "row": []}))
    with pytest.raises(InvariantViolation, match=r"input pool \(ingest@0{16}\) is not committed"):
        store.commit(draft)


def test_versions_come_after_what_they_were_made_from_even_if_the_clock_jumped_back(store: Store) -> None:
    base = ingest(store, ["a", "bbb"])
    early = store.draft(filter_step(base.ref))
    early.homes, early.rules = [base.ref], [SHORT]
    early.put("verdicts/pool", pl.DataFrame({"fate": [1, 0], "rule": [1, 0]}))
    early.put("members", pl.DataFrame({"home": [0], "row": [1]}))
    unsealed = store.commit(early)
    path = store.root / "steps" / "filter" / f"{unsealed.ref.fingerprint}.json"
    content = json.loads(path.read_text())
    content["run"]["committed_at"] = "2020-01-01T00:00:00.000000+00:00"
    path.write_text(json.dumps(content))
    assert [m.ref for m in store.versions()] == [base.ref, unsealed.ref]


def test_a_manifest_cannot_name_a_file_outside_the_store(store: Store) -> None:
    made = ingest(store, ["a"])
    (store.root.parent / "secret").write_bytes(b"PAR1")
    path = store.root / "steps" / "ingest" / f"{made.ref.fingerprint}.json"
    path.write_text(path.read_text().replace(made.parts["examples"][0].sha256, "../../../secret"))
    with pytest.raises(CorruptStore, match=r"names '../../../secret', which is no digest"):
        store.pool(made.ref)
    assert any("is no digest" in finding.problem for finding in store.verify())


def test_a_store_that_another_makes_between_two_looks_is_opened(tmp_path: Path) -> None:
    root = tmp_path / "store"

    class Late(LocalFileSystem):
        looked = False

        def read(self, path: Path) -> bytes:
            if path.name == "FORMAT" and not self.looked:
                self.looked = True
                Store.open(root)
                raise FileNotFoundError(path)
            return super().read(path)

    assert list(Store.open(root, fs=Late()).versions()) == []
