"""serve, up, down, deploy, engine: what keeps running."""

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json, say

engine = typer.Typer(
    name="engine", help="A vLLM server that provender starts, watches and stops.", no_args_is_help=True
)


#: Seconds that the browser may read what is asked first before it listens; the rest is read while nobody waits.
READ_FIRST_SECONDS = 2.5


def home() -> Path:
    """Where what keeps running is noted."""
    return Path(os.environ.get("PROVENDER_HOME") or Path.home() / ".local/state/provender")


def serve(
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8377,
    host: Annotated[str, typer.Option(help="Anything but loopback needs --token.")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(envvar="PROVENDER_TOKEN", help="Needed where others can reach it.")
    ] = None,
    allow_host: Annotated[
        list[str],
        typer.Option(
            metavar="NAME", help="A further name under which it may be asked for (behind a proxy); repeatable."
        ),
    ] = [],
) -> None:
    """The lineage browser, on loopback: it reads the store and writes nothing but reviews of benchmark hits."""
    import uvicorn
    from uvicorn.importer import import_from_string

    from cli.listening import address_of, listening, names_of
    from cli.prefect_server import address_of_running
    from cli.store_read import looked_at
    from schemas.errors import UsageError
    from storage.files.places import shown
    from storage.questions.lasting import keep_in

    store = looked_at(store)
    keep_in(home() / "answers")
    create_app = import_from_string("web.app:create_app")  # by name: the two front ends never import each other

    if host not in ("127.0.0.1", "localhost", "::1") and not token:
        raise UsageError(f"--host {host} lets others in; give --token (at least 16 characters)")
    api = os.environ.get("PREFECT_API_URL") or address_of_running(home())
    prefect = api.removesuffix("/").removesuffix("/api") if api else None  # runs link to its pages
    app = create_app(store, token=token, allowed_hosts=names_of(host, allow_host), prefect=prefect)
    app.state.read_ahead(READ_FIRST_SECONDS)
    taken = listening(host, port)
    say(f"lineage browser of {shown(store)} on {address_of(taken, host)}" + (f"?token={token}" if token else ""))
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[taken])


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    everything: Annotated[
        bool, typer.Option("--all", help="Also register the deployments and start a worker for each of their pools.")
    ] = False,
    schedule: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="With --all: switch on this deployment's schedule, as refresh/nightly."),
    ] = [],
    file: Annotated[Path, typer.Option(help="With --all: the deployments.")] = Path("prefect.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Keep a local Prefect server running (loopback, no telemetry), with workers and schedules by --all."""
    from cli.deploying import deploy_all, pools_of
    from cli.prefect_server import connection, start
    from schemas.errors import UsageError

    if schedule and not everything:
        raise UsageError("--schedule switches on what --all registers; give both")
    pools = pools_of(file) if everything else []  # a file that is not there is told before anything is started
    api = start(home(), port)
    os.environ.update(connection(home()))
    password = os.environ.get("PREFECT_API_AUTH_STRING", "")
    pages = f"Prefect at {api}; its pages, {api.removesuffix('/api')}" + (f", ask for {password}" if password else "")
    if not everything:
        out_json({"api": api}) if as_json else out(f"{pages}\nstop it with `provender down`")
        return
    for line in deploy_all(file):
        say(line)
    from cli.workers import resume_schedules, start_workers

    workers = start_workers(home(), api, pools)
    scheduled = resume_schedules(schedule)
    if as_json:
        out_json({"api": api, "workers": workers, "schedules": scheduled})
        return
    out(pages)
    out(f"workers: {', '.join(f'{pool} (process {pid})' for pool, pid in workers.items())}")
    for line in scheduled:
        out(line)
    out("run one now with `provender trigger refresh/nightly`; stop all of it with `provender down`")


def down(as_json: JsonOption = False) -> None:
    """Stop what `up` started: the workers with their runs, and the Prefect server."""
    from cli.prefect_server import stop
    from cli.workers import stop_workers

    workers = stop_workers(home())
    stopped = stop(home())
    if as_json:
        out_json({"stopped": stopped, "workers": workers})
        return
    told = [*(f"worker of pool {pool}" for pool in workers), *(["Prefect server"] if stopped else [])]
    out(f"stopped: {', '.join(told)}" if told else "none was running")


def deploy(
    file: Annotated[Path, typer.Option(help="Deployments to register.")] = Path("prefect.yaml"),
) -> None:
    """Register the scheduled deployments of prefect.yaml, and the work pools they name, with the Prefect server."""
    from cli.deploying import deploy_all

    for line in deploy_all(file):
        out(line)


@engine.command("start")
def engine_start(
    name: Annotated[str, typer.Argument(help="vllm")] = "vllm",
    model: Annotated[str, typer.Option(help="Model name, folder, or org/name.")] = "sprout",
    set_: Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field of the vllm backend.")] = [],
    as_json: JsonOption = False,
) -> None:
    """Make or reuse the engine's own environment, start it on loopback, and wait until it answers."""
    from backends import engines
    from cli.building import build

    state = engines.start_engine(
        build(engines.config_class(name), {"backend": name, "model": model}, set_, f"engine {name}")
    )
    out_json(state) if as_json else out(engines.words(state))


@engine.command("stop")
def engine_stop(name: Annotated[str, typer.Argument(help="vllm")] = "vllm", as_json: JsonOption = False) -> None:
    """Stop the engine and everything it started."""
    from backends import engines

    stopped = engines.stop_engine(name)
    out_json({"stopped": stopped}) if as_json else out("stopped" if stopped else "none was running")


@engine.command("status")
def engine_status(name: Annotated[str, typer.Argument(help="vllm")] = "vllm", as_json: JsonOption = False) -> None:
    """Whether it runs, answers and makes progress."""
    from backends import engines

    state = engines.engine_status(name)
    out_json(state) if as_json else out(engines.words(state))
