"""trigger: start a deployed flow on its workers, and wait for it."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import JsonOption, out, out_json, say
from schemas.errors import BackendError, EngineDown, UsageError


def trigger(
    deployment: Annotated[str, typer.Argument(help="flow/deployment, as in refresh/nightly.", show_default=False)],
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the flow, as YAML; may be repeated."),
    ] = [],
    wait: Annotated[bool, typer.Option(help="Wait for its end; exit code 5 when it failed.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Run a deployment now, on the workers of its pool, with its own parameters or others."""
    if "PREFECT_API_URL" not in os.environ:
        raise EngineDown("no Prefect server is known; start one with its workers by `provender up --all`")
    started = time.monotonic()
    run = _started(deployment, _parameters(set_))
    say(f"{deployment}: flow run {run.name} ({run.id})")
    if wait:
        run = _ended(run, deployment)
    said = {"deployment": deployment, "run": run.name, "id": str(run.id), "state": _state(run)}
    seconds = time.monotonic() - started
    out_json({**said, "seconds": round(seconds, 1)}) if as_json else out(f"{run.name}: {_state(run)} ({seconds:.0f} s)")
    if wait and not run.state.is_completed():
        raise BackendError(
            f"{deployment}: {run.name} ended as {run.state.name}: {run.state.message or 'see its log'}{_logs()}"
        )


def _parameters(given: list[str]) -> dict[str, Any]:
    from schemas.safe_yaml import load_yaml

    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {text}: a parameter looks like store=demo/store")
        found[name], _ = load_yaml(value, what=f"--set {name}")
    return found


def _started(deployment: str, parameters: dict[str, Any]) -> Any:
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        return run_deployment(deployment, parameters=parameters, timeout=0, as_subflow=False)
    except ObjectNotFound as error:
        raise UsageError(
            f"there is no deployment {deployment!r}; `provender deploy` registers those of prefect.yaml"
        ) from error
    except Exception as error:
        if type(error).__name__ == "PrefectHTTPStatusError":  # parameters that the flow does not take
            raise UsageError(f"{deployment} was refused: {str(error).splitlines()[0]}") from error
        raise


def _ended(run: Any, deployment: str) -> Any:
    """The run in its final state; each new state is said on the way, and Ctrl-C leaves it running."""
    from prefect.client.orchestration import get_client

    told = ""
    with get_client(sync_client=True) as client:
        try:
            while run.state is None or not run.state.is_final():
                if _state(run) != told:
                    told = _state(run)
                    say(f"{run.name}: {told.lower()}")
                time.sleep(1)
                run = client.read_flow_run(run.id)
        except KeyboardInterrupt:
            say(f"no longer waiting; {deployment} goes on as {run.name}")
            raise
    return run


def _state(run: Any) -> str:
    return run.state.name if run.state else "Scheduled"


def _logs() -> str:
    """Where the workers of `provender up --all` write, if there are some."""
    from cli.serving import home
    from cli.workers import alive, log_of

    files: list[Path] = [log_of(home(), pool) for pool in alive(home())]
    return f"; the workers write to {', '.join(map(str, files))}" if files else ""
