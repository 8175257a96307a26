"""A server and the environment of its client, for one test."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.storage.s3_server import BUCKET, S3, serving

WHERE = f"s3://{BUCKET}/team/store"


@contextmanager
def s3_environment(home: Path) -> Generator[S3, None, None]:
    """A running server whose address and keys are in the environment; what is local lies in ``home``."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    try:
        with serving() as server:
            os.environ.update(server.environment(), PROVENDER_HOME=str(home))
            yield server
    finally:
        os.environ.clear()
        os.environ.update(before)
