"""The main job with the shipped fakes and the real store, without a server: every row accounted for, nothing done twice."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from flows.curate import curate, curation
from schemas.errors import BudgetExceeded, GateClosed, MalformedSource, Stopped, StoreUnwritable
from schemas.lineage import DatasetRef, Manifest
from storage.questions.trace import trace
from storage.runs import runs
from storage.store import Store
from tasks.bench import bench_of
from tasks.events import Event, listening
from tasks.plan import nothing_to_do, plan_of
from tests.outside_check import Outside
from tests.tasks.fakes_recipe import LEAK, recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(folder of the data, store, dataset) of one finished run."""
    folder = tmp_path_factory.mktemp("demo")
    ref = curate.fn(recipe(folder), folder / "store", "first-run")
    return folder, folder / "store", ref


def step(store: Store, stage: str) -> Manifest:
    return next(m for m in store.versions() if m.step.stage == stage)


def test_every_stage_conserves_every_row_as_seen_from_outside(done: tuple[Path, Path, str]) -> None:
    outside = Outside(done[1])
    told = [outside.check(ref) for ref in outside.manifests]
    assert len(told) == 14, (
        "3 ingests, generate, gather, dedup, 2 filters, decontaminate, rank, select, mix, publish, finetune"
    )
    assert Store.open(done[1]).verify() == []


def test_each_bad_row_is_out_for_its_own_reason(done: tuple[Path, Path, str]) -> None:
    store = Store.open(done[1])
    assert sum(step(store, "dedup").reasons.values()) == 1, "row 0 stands twice"
    heuristics = next(m for m in store.versions() if m.step.method.get("method") == "heuristics")
    assert heuristics.reasons == {"empty-answer": 1}
    assert sum(step(store, "decontaminate").reasons.values()) == 1


def test_the_leak_is_traced_to_the_benchmark_item_and_span(done: tuple[Path, Path, str]) -> None:
    store = Store.open(done[1])
    pool = store.pool(step(store, "gather").ref)
    leak = pool.filter(pl.col("messages").list.first().struct.field("content") == LEAK)["id"][0]
    found = trace(store, leak.hex())
    assert found.sentence.startswith("Dropped at decontaminate")
    assert "gsm8k" in found.model_dump_json()


def test_generated_rows_name_their_seeds_and_calls(done: tuple[Path, Path, str]) -> None:
    store = Store.open(done[1])
    made = step(store, "generate")
    links, calls = store.part(made.ref, "links"), store.part(made.ref, "calls")
    assert made.counts.created == 3
    assert links["parents"].list.len().min() == 8, "all eight seeds fit the prompt"
    assert links["calls"].list.len().min() >= 2, "the series and the answer"
    known = set(calls["key"])
    assert all(key in known for keys in links["calls"] for key in keys)
    refused = store.part(made.ref, "refused")
    assert "Draw a map of the town." in " ".join(refused["text"])
    examples = store.part(made.ref, "examples")
    assert set(examples["license"]) == {"Apache-2.0"}, "inherited from the seeds"
    assert set(examples["synthetic_depth"]) == {1}


def test_a_rerun_computes_nothing_and_reaches_the_same_ref(done: tuple[Path, Path, str]) -> None:
    folder, store, ref = done
    heard: list[Event] = []
    with listening(heard.append):
        assert curate.fn(recipe(folder), store) == ref
    assert {e.kind for e in heard} <= {"reused", "note"}
    assert nothing_to_do(plan_of(recipe(folder), store, curation), store)


def test_another_store_reaches_the_same_refs_and_bytes(done: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, store, ref = done
    assert curate.fn(recipe(folder), tmp_path / "other") == ref
    first = {str(m.ref): m.digest for m in Store.open(store).versions()}
    second = {str(m.ref): m.digest for m in Store.open(tmp_path / "other").versions()}
    assert {r for r in first if first[r] != second[r]} <= {str(step(Store.open(store), "generate").ref)} | {
        str(m.ref) for m in Store.open(store).versions() if m.run.get("calls")
    }, "only steps with a `calls` part may differ: it notes which calls were cached"


def test_plan_says_in_words_what_changed(done: tuple[Path, Path, str]) -> None:
    folder, store, _ = done
    changed = recipe(folder, select={"method": "top", "keep_examples": 40})
    because = {s.stage: s.because for s in plan_of(changed, store, curation).steps if s.action == "run"}
    assert because["select"] == "changed: field keep_examples: 60 -> 40"
    assert because["mix"].startswith("changed: its input changed")
    assert "rank" not in because, "a new budget reuses the ranking"


def test_a_file_that_grew_keeps_its_rows_ids(done: tuple[Path, Path, str], tmp_path: Path) -> None:
    store = done[1]
    before = set(Store.open(store).pool(step(Store.open(store), "ingest").ref)["id"])
    grown = recipe(tmp_path)
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"instruction": "Name a color.", "input": "", "output": "Blue."}) + "\n")
    curate.fn(grown.model_copy(update={"finetune": None}), tmp_path / "store")
    fresh = Store.open(tmp_path / "store")
    after = set(fresh.pool(step(fresh, "ingest").ref)["id"])
    assert len(after - before) == 1
    assert before <= after


def test_the_gate_refuses_a_set_that_was_not_checked(tmp_path: Path) -> None:
    unchecked = recipe(tmp_path, decontaminate=None)
    with pytest.raises(GateClosed, match="declares no benchmark"):
        curate.fn(unchecked, tmp_path / "store", "refused-run")
    store = Store.open(tmp_path / "store")
    assert not [m for m in store.versions() if m.step.stage == "finetune"]
    assert [(r.run_id, r.status) for r in runs(store.root)] == [("refused-run", "failed")]


def test_overriding_the_gate_needs_a_reason_and_is_recorded(tmp_path: Path) -> None:
    forced = recipe(
        tmp_path,
        decontaminate=None,
        finetune={"by": {"backend": "pretend"}, "override_gate": "toy data, nothing is published"},
    )
    curate.fn(forced, tmp_path / "store")
    trained = step(Store.open(tmp_path / "store"), "finetune")
    assert trained.summary["gate"]["status"] == "overridden"
    assert "toy data" in json.dumps(trained.summary["gate"])


def test_a_non_commercial_licence_closes_the_gate_until_it_is_accepted(tmp_path: Path) -> None:
    sources = recipe(tmp_path).model_dump(mode="json")["sources"]
    sources["rows"]["license"] = "CC-BY-NC-4.0"
    with pytest.raises(GateClosed, match="non_commercial_ok"):
        curate.fn(recipe(tmp_path, sources=sources), tmp_path / "store")
    accepted = recipe(tmp_path, sources=sources, finetune={"by": {"backend": "pretend"}, "non_commercial_ok": True})
    curate.fn(accepted, tmp_path / "store")


def test_too_many_malformed_rows_stop_before_anything_is_spent(tmp_path: Path) -> None:
    broken = recipe(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Hi", "output": "Hello"}\n{oops\n{oops\n', "utf-8")
    with pytest.raises(MalformedSource, match=r"rows\.jsonl"):
        curate.fn(broken, tmp_path / "store")
    assert not [m for m in Store.open(tmp_path / "store").versions() if m.step.stage == "generate"]


def test_a_shard_that_was_finished_is_read_back_not_judged_again(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    whole = bench_of(made, tmp_path / "whole")
    sharded = bench_of(made, tmp_path / "sharded").model_copy(update={"shard_rows": 10})
    assert curation(made, whole) == curation(made, sharded)
    a, b = Store.open(tmp_path / "whole"), Store.open(tmp_path / "sharded")
    heuristics = next(m for m in a.versions() if m.step.method.get("method") == "heuristics")
    assert a.part(heuristics.ref, "verdicts/pool").equals(b.part(heuristics.ref, "verdicts/pool"))
    assert len(b.shards(heuristics.ref)) == 11, "102 distinct + 3 generated - 1 duplicate, ten at a time"


def test_a_sigkilled_run_is_marked_crashed_and_a_finished_one_is_not(
    done: tuple[Path, Path, str], tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from storage.runs import RunLog;"
        "RunLog(Path(sys.argv[1]), 'demo', 'curate', 'killed'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert [(r.run_id, r.status) for r in runs(tmp_path)] == [("killed", "crashed")]
    assert {r.status for r in runs(done[1])} == {"completed"}


def test_publish_writes_one_self_contained_copy_with_its_tag(done: tuple[Path, Path, str]) -> None:
    store = Store.open(done[1])
    ref = store.resolve("demo@v1")
    assert str(ref) == done[2]
    train = store.part(ref, "train")
    assert train.height == store.describe(ref).counts.rows_out == 50
    assert train["id"].to_list() == store.pool(ref)["id"].to_list()
    assert store.describe(ref).summary["gate"]["status"] == "passed"
    assert isinstance(store.describe(ref).ref, DatasetRef)


def test_a_stop_file_stops_between_steps_and_its_removal_lets_the_run_go_on(tmp_path: Path) -> None:
    made, store = recipe(tmp_path), tmp_path / "store"
    heard: list[Event] = []

    def stop_after_gather(event: Event) -> None:
        heard.append(event)
        if event.kind == "done" and event.stage == "gather":
            (store / "STOP").touch()

    with listening(stop_after_gather), pytest.raises(Stopped, match="before dedup, by the file"):
        curate.fn(made, store, "stopped-run")
    assert [r.status for r in runs(store)] == ["stopped"]
    (store / "STOP").unlink()
    heard.clear()
    with listening(heard.append):
        curate.fn(made, store, "resumed-run")
    assert [e.stage for e in heard if e.kind == "reused"] == ["ingest", "ingest", "ingest", "generate", "gather"]


def test_a_budget_binds_over_resumes_and_a_raised_one_finishes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    tight = recipe(tmp_path, budget={"max_tokens": 700})
    with pytest.raises(BudgetExceeded):
        curate.fn(tight, store)
    paid = Store.open(store).disk.root / "calls.sqlite"
    assert paid.exists()
    with pytest.raises(BudgetExceeded):
        curate.fn(tight, store)
    assert [r.status for r in runs(store)] == ["stopped", "stopped"]
    assert len({r.account for r in runs(store)}) == 1, "the resumed run draws on the same account"
    curate.fn(recipe(tmp_path, budget={"max_tokens": 1_000_000}), store)
    assert runs(store)[0].status == "completed"


def test_a_store_that_takes_no_run_log_is_said_before_anything_runs(tmp_path: Path) -> None:
    Store.open(tmp_path / "store")
    (tmp_path / "store" / "runs").write_text("a file where a folder belongs")
    with pytest.raises(StoreUnwritable, match="a run needs a store that can be written"):
        curate.fn(recipe(tmp_path), tmp_path / "store")
    assert not list(Store.open(tmp_path / "store").versions())
