"""Writers on object storage as processes that can be killed: the environment goes with them, the rest is ``writers``."""

import hashlib
import os
from pathlib import Path

from tests.forked import CONTEXT
from tests.storage.writers import write


def s3_settings() -> dict[str, str]:
    """What a writer's process needs of this one's environment."""
    return {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "PROVENDER_"))}


def write_there(settings: dict[str, str], where: str, writer: int, jobs: list[int], acks: Path) -> None:
    """``writers.write`` with the server and the keys of ``settings``."""
    os.environ.update(settings)
    write(Path(where), writer, jobs, acks)


def put_there(settings: dict[str, str], where: str, file: Path) -> None:
    """Sends one file as an object."""
    os.environ.update(settings)
    from storage.files.bucket import Bucket
    from storage.files.places import s3_place

    place = s3_place(where)
    assert place is not None
    Bucket(place).put_file("objects/large", file, hashlib.sha256(file.read_bytes()).hexdigest())


def start(where: str, writer: int, jobs: list[int], acks: Path):
    """A writer as a process."""
    process = CONTEXT.Process(target=write_there, args=(s3_settings(), where, writer, jobs, acks))
    process.start()
    return process


def start_put(where: str, file: Path):
    """A process that sends one file."""
    process = CONTEXT.Process(target=put_there, args=(s3_settings(), where, file))
    process.start()
    return process
