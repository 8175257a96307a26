"""How the command line talks: data on stdout, everything else on stderr, one line per error."""

import contextlib
import json
import logging
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

StoreOption = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar="PROVENDER_STORE",
        help="Folder of the dataset store, or s3://bucket/prefix.",
        show_default=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout instead of text.")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="A.B=C", help="Override one value of the recipe; may be repeated.")
]
DEFAULT_STORE = Path("store")

#: What a terminal must not get from a dataset: escape sequences, control and invisible direction characters.
HOSTILE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def safe(text: str) -> str:
    """The text with control and invisible characters shown as escapes, so that it cannot drive the terminal."""
    return HOSTILE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def say(text: str = "") -> None:
    """A line for a person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def out(text: str) -> None:
    """A line of the answer, on stdout."""
    print(text, flush=True)


def out_json(value: Any) -> None:
    """One JSON value on stdout; pydantic models, refs, bytes and dates included."""
    print(json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, indent=None if piped() else 1))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def piped() -> bool:
    """Whether stdout goes into another program."""
    return not sys.stdout.isatty()


def fail(message: str, exit_code: int) -> NoReturn:
    """One line on stderr, then out."""
    say(f"error: {safe_lines(message)}")
    sys.exit(exit_code)


def safe_lines(message: str) -> str:
    """``safe``, but line breaks stay: error lists have lines."""
    return "\n".join(safe(line) for line in message.splitlines())


def show_traceback(error: Exception) -> None:
    """What is not the user's to mend: the traceback, and that it is ours."""
    traceback.print_exception(error)
    say("this is a defect of provender, not of your data; please report the lines above")


def told_once(record: logging.LogRecord) -> bool:
    """False for Prefect's traceback of an error that is the user's to mend: the command line ends with its one line.

    Prefect logs what a flow or task raises with its traceback, once for each, and then the state this came to, before it
    reaches ``fail``.
    """
    from schemas.errors import ProvenderError

    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, ProvenderError) and not str(record.msg).startswith("Finished in state")


def quiet_environment() -> None:
    """Settings that must stand before Prefect, transformers or DuckDB are imported: loopback only, nothing calls home.

    Called once, where the command line begins (``cli.main``); workers and their runs inherit what it sets.
    """
    home = Path(os.environ.get("PROVENDER_HOME") or Path.home() / ".local/state/provender")
    quiet = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    for runs in ("prefect.flow_runs", "prefect.task_runs"):  # a filter that is there already is not added twice
        logging.getLogger(runs).addFilter(told_once)
    from_profile = (Path.home() / ".prefect" / "profiles.toml").exists()
    if "PREFECT_API_URL" not in os.environ and not from_profile:
        os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))
        with contextlib.suppress(OSError):  # to look at a store needs no home; what does is warned by Prefect
            Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True, mode=0o700)
        from cli.prefect_server import connection

        os.environ.update(connection(home))  # else a run starts its own (tasks/own_server.py)
