"""A schedule makes runs: the server puts them beside the deployment, and a worker would take them."""

import pytest

pytestmark = pytest.mark.flow


def test_a_schedule_makes_runs_that_wait_for_their_time(prefect_server: None) -> None:
    """SQLAlchemy 2.1 refuses the insertion that Prefect 3.8.8 makes, in a background service: nobody sees that nothing runs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.schedules import CronSchedule

    from flows.collect import collect

    with get_client(sync_client=True) as client:
        nightly = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"), active=True)
        made = client.create_deployment(client.create_flow(collect), name="nightly", schedules=[nightly])
        answer = client.request("POST", "/deployments/{id}/schedule", path_params={"id": made}, json={"min_runs": 2})
        assert answer.status_code == 200
        runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[made])))
    assert [run.state.type.value for run in runs if run.state][:2] == ["SCHEDULED"] * 2
