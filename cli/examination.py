"""What `provender doctor` looks at."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from pydantic import BaseModel

from schemas.errors import MissingDataset, ProvenderError
from storage.files.places import local_folder, s3_place, shown


class Examined(BaseModel):
    """One thing that was looked at."""

    what: str
    ok: bool
    says: str


def examine(store: Path) -> list[Examined]:
    """Python, packages, accelerator, engines, server, disk and store."""
    found = [
        Examined(what="python", ok=(3, 11) <= sys.version_info[:2] <= (3, 13), says=sys.version.split()[0]),
        *(_package(name, needed=True) for name in ("prefect", "polars", "duckdb", "pydantic", "fastapi")),
        *(
            _package(name, needed=False)
            for name in ("torch", "transformers", "sentence-transformers", "trl", "peft", "ray")
        ),
        _accelerator(),
        _sandbox(),
        _disk(store),
        _store(store),
    ]
    from cli.prefect_server import address_of_running
    from cli.serving import home

    address = os.environ.get("PREFECT_API_URL") or address_of_running(home())
    found.append(
        Examined(
            what="prefect server",
            ok=True,
            says=address or "none; a run starts a temporary one (`provender up` keeps one)",
        )
    )
    from backends.engines import engine_status, words

    found.append(Examined(what="vllm engine", ok=True, says=words(engine_status("vllm"))))
    return found


def _package(name: str, *, needed: bool) -> Examined:
    try:
        return Examined(what=name, ok=True, says=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Examined(what=name, ok=not needed, says="not installed" + ("" if needed else "; it comes with an extra"))


def _accelerator() -> Examined:
    if importlib.util.find_spec("torch") is None:
        return Examined(what="accelerator", ok=True, says="unknown without torch")
    import torch

    says = torch.cuda.get_device_name() if torch.cuda.is_available() else f"none; {os.cpu_count()} CPU cores"
    return Examined(what="accelerator", ok=True, says=says)


def _sandbox() -> Examined:
    """The box in which code written by a model would run, tried now; without one nothing of the kind runs."""
    from backends.sandbox.auto import AutoSandbox

    try:
        return Examined(what="sandbox", ok=True, says=f"{AutoSandbox().open().kind}; it holds what it was tried with")
    except ProvenderError as error:
        return Examined(what="sandbox", ok=True, says=str(error))


def _disk(store: Path) -> Examined:
    try:
        folder = local_folder(store)
    except ProvenderError:  # `store` says what is wrong with the address
        folder = Path()
    place = folder if folder.exists() else Path()
    free = shutil.disk_usage(place).free / 2**30
    return Examined(what="disk", ok=free > 1, says=f"{free:.1f} GiB free")


def _store(store: Path) -> Examined:
    from storage.store import Store

    try:
        if s3_place(store) is None and not store.exists():
            return Examined(what="store", ok=True, says=f"{store} does not exist yet")
        opened = Store.open(store, create=False)
        return Examined(
            what="store",
            ok=True,
            says=f"{shown(store)}: {sum(1 for _ in opened.versions())} versions, {len(opened.tags())} tags",
        )
    except MissingDataset as error:
        return Examined(what="store", ok=s3_place(store) is not None, says=str(error))
    except ProvenderError as error:
        return Examined(what="store", ok=False, says=str(error))
