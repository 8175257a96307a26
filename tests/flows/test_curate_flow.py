"""The curate flow under a real Prefect server: one task run per step, reused on the second run."""

from pathlib import Path

import pytest

from tests.tasks.fakes_recipe import recipe

pytestmark = pytest.mark.flow


def test_curate_runs_each_stage_as_a_task_and_a_rerun_reaches_the_same_ref(
    prefect_server: None, tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    from flows.curate import curate

    made = recipe(tmp_path)
    first = curate(made, tmp_path / "store")
    again = curate(made, tmp_path / "store")
    assert first == again == curate.fn(made, tmp_path / "store"), "with and without the orchestrator"

    from storage.runs import runs as logged

    mine = {run.flow_run_id for run in logged(tmp_path / "store")}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=["demo"])))
    states = {str(run.id): run.state.type.value for run in runs if run.state and str(run.id) in mine}
    assert list(states.values()) == ["COMPLETED", "COMPLETED"], "two flow runs, which the store's log names"
