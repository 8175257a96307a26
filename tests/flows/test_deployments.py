"""Every deployment in prefect.yaml loads and accepts its parameters."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import starter
from cli.deploying import deploy_all, pools_of
from schemas.errors import EngineDown, UsageError
from schemas.recipe import Finetuning

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]


STARTED: list[dict[str, Any]] = yaml.safe_load(starter.DEPLOYMENTS.format(name="mine"))["deployments"]


@pytest.mark.parametrize("deployment", [*DEPLOYMENTS, *STARTED], ids=lambda d: f"{d['entrypoint']}/{d['name']}")
def test_a_deployment_loads_and_its_parameters_fit(deployment: dict[str, Any]) -> None:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    known = inspect.signature(flow.fn).parameters
    given = deployment.get("parameters", {})
    assert set(given) <= set(known)
    missing = [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in given]
    if deployment.get("schedules"):
        assert not missing, f"a schedule cannot fill {missing}"
        flow.validate_parameters(given)
    assert parameter_schema(flow).properties.keys() == set(known)


def test_every_flow_file_has_a_deployment_or_is_called_by_one() -> None:
    files = {p.stem for p in (ROOT / "flows").glob("*.py")} - {"__init__"}
    deployed = {d["entrypoint"].split(".")[1] for d in DEPLOYMENTS}
    assert files - deployed <= {"dedup", "ingest", "publish"}  # ad hoc only


def test_a_new_project_has_deployments_that_follow_its_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert folder / "prefect.yaml" in starter.write_project(folder)
    assert pools_of(folder / "prefect.yaml") == ["cpu", "gpu"]
    nightly = STARTED[0]["parameters"]
    assert (folder / nightly["recipe"]).is_file()
    finetune = next(d for d in STARTED if d["entrypoint"] == "flows.finetune.finetune")
    assert f"finetune/{finetune['name']}" == Finetuning.model_fields["deployment"].default


def test_a_missing_file_and_a_server_that_is_not_there_are_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"there is no .*prefect.yaml here; go to the folder that has one"):
        pools_of(tmp_path / "prefect.yaml")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(EngineDown, match=r"^work pool cpu at http://127.0.0.1:9/api: .*connection") as caught:
        list(deploy_all(ROOT / "prefect.yaml"))
    assert "\n" not in str(caught.value)
