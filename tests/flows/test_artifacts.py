"""Artifacts on a real Prefect server: what a run leaves there, and that neither their absence nor their failure matters."""

import json
import logging
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from schemas.lineage import DatasetRef
from storage.store import Store
from tasks import artifacts as module
from tasks.artifacts import artifacts, evaluation_rows, link_to
from tasks.bench import Bench
from tasks.events import Event, StepProgress, emit
from tests.seeding import Builder
from tests.tasks.fakes_recipe import recipe

pytestmark = pytest.mark.flow


def left_by(flow_run_id: str) -> dict[str, list[Any]]:
    """Artifacts of a flow run by the beginning of their key, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
    from prefect.client.schemas.sorting import ArtifactSort

    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    found: dict[str, list[Any]] = {}
    with get_client(sync_client=True) as client:
        for one in client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC):
            found.setdefault(str(one.key).split("-")[0], []).insert(0, one)
    return found


def evaluation(store: Store) -> DatasetRef:
    """An evaluation step with one figure whose slice is a hostile name."""
    build = Builder(store, "")
    target = build.ingest("target", [("q", "a")])
    draft = build.draft("evaluate", {}, {"pool": target})
    draft.keep_members(store.describe(target))
    draft.put("scores", pl.DataFrame({"score": [1.0]}))
    figure = {"metric": "loss", "slice": "source=a\n<b>", "examples": 1, "value": 1.23456, "low": 1.0, "high": 2.0}
    draft.summary = {"measured": [figure, {**figure, "metric": "rouge-l", "value": None}]}
    return store.commit(draft).ref


def test_a_curate_run_leaves_its_funnel_and_a_way_to_the_lineage(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.curate import curate
    from storage.runs import runs

    monkeypatch.setattr(module, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)
    ref = curate(recipe(tmp_path), tmp_path / "store")
    (run,) = runs(tmp_path / "store")
    left = left_by(str(run.flow_run_id))
    rows = json.loads(left["funnel"][0].data)
    store = Store.open(tmp_path / "store")
    for row in rows:
        assert row["state"] == "computed"
        counts = store.describe(DatasetRef.parse(row["ref"])).counts
        assert row["rows out"] == counts.rows_out
        assert row["dropped"] == sum(i.rejected + i.quarantined for i in counts.inputs)
    assert [row["step"] for row in rows][-2:] == ["publish", "finetune"]
    assert left["lineage"][0].data == link_to(ref)
    assert ref in left["lineage"][0].data
    assert left["progress"], "every step counts as long here"
    assert all(0 <= one.data <= 100 for one in left["progress"])
    assert any(one.task_run_id for one in left["progress"]), "a progress bar stands at its task"


def test_progress_is_brought_up_to_date_and_ends_at_the_whole(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.runtime import flow_run

    monkeypatch.setattr(module, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)
    scored = evaluation(Store.open(tmp_path / "store"))

    @flow(name="long", persist_result=False)
    def long() -> str:
        with artifacts("My_Recipe", Bench(store=tmp_path / "store"), flow_run.id):
            emit(Event("start", "filter", "judge", "filter@1"))
            progress = StepProgress("filter", "judge", "filter@1")
            progress(1, 4)
            progress.calls(1, 100)  # the step's own count is what is shown
            progress(2, 4)
            emit(Event("done", "filter", "judge", "filter@1", counts={"kept": 2, "rows_out": 2}, seconds=3.0))
            emit(Event("reused", "evaluate", "evaluate", str(scored), counts={"rows_out": 1}))
        return str(flow_run.id)

    left = left_by(long())
    (bar,) = left["progress"]
    assert (bar.key, bar.data) == ("progress-my-recipe-filter", 100.0)
    (table,) = left["evaluation"]
    assert json.loads(table.data) == [
        {
            "metric": "loss", "slice": "source=a <b>", "examples": 1, "before": None, "interval before": "", "after": 1.2346,
            "interval": "1.0000 to 2.0000", "change": None, "interval of the change": "",
        }
    ]  # fmt: skip


def test_a_server_that_is_gone_is_one_line_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        caplog.at_level(logging.WARNING, "provender"),
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        artifacts("demo", Bench(store=tmp_path / "store"), str(uuid4())),
    ):
        for i in range(3):
            emit(Event("done", "filter", "judge", f"filter@{i}", counts={"kept": 2}))
    told = [record.message for record in caplog.records if "artifacts" in record.message]
    assert len(told) == 1
    assert told[0].startswith("no more artifacts in Prefect for this run: ")


def test_without_a_flow_run_or_a_server_nothing_is_started(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    before = threading.active_count()
    bench = Bench(store=tmp_path / "store")
    with artifacts("demo", bench, None):
        assert threading.active_count() == before
    with temporary_settings(restore_defaults={PREFECT_API_URL}), artifacts("demo", bench, str(uuid4())):
        assert threading.active_count() == before


def test_an_evaluation_s_rows_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    assert [row["metric"] for row in evaluation_rows(store, str(evaluation(store)))] == ["loss"]


def test_links_follow_the_browser_s_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVENDER_URL", "https://lineage.example/")
    assert link_to("publish@ab") == "[publish@ab](https://lineage.example/d/publish@ab)"
