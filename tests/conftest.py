"""Settings that must stand before anything is imported: loopback only, nothing calls home, one Prefect server per session."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.order import place


def roomy(folder: Path) -> bool:
    """Whether 4 GiB fit there and 8 into the memory, and programs may be run from there."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    runs = not found.f_flag & getattr(os, "ST_NOEXEC", 0)
    return runs and found.f_bavail * found.f_frsize >= 4 << 30 and psutil.virtual_memory().available >= 8 << 30


for _name, _value in {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",  # a worker a core: threads of one would only wait for those of the other
}.items():
    os.environ.setdefault(_name, _value)
# Thousands of small stores are synced, and none is to outlive the session: they lie in memory where there is much of it
# (TMPDIR set to another place keeps them, to look at what a test left).
if "TMPDIR" not in os.environ and roomy(Path("/dev/shm")):
    os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(prefix="provender-", dir="/dev/shm")
    os.chmod(os.environ["TMPDIR"], 0o711)  # a test looks at a store as another user
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, os.environ["TMPDIR"], ignore_errors=True)
# What is imported is compiled once, not by each process that a test starts, even where the shell asks for no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
gc.disable()  # until everything is collected: what is imported and found stays, so a search for garbage finds none
# A home of the session's own: neither a server that `up` keeps running here nor benchmarks added here reach a test.
os.environ["PROVENDER_HOME"] = tempfile.mkdtemp(prefix="provender-home-")
atexit.register(shutil.rmtree, os.environ["PROVENDER_HOME"], ignore_errors=True)
# How long an example takes says something about the machine, not about the property.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def the_environment_as_it_was() -> Iterator[None]:
    """The command line sets variables for the libraries it is about to import; the next test starts without them."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real temporary Prefect server for the flow tests; it takes about 20 s to start, once."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


def pytest_configure(config: pytest.Config) -> None:
    # Hypothesis sees that `random` was used while it drew: by a thread of Prefect's, which is still there after its tests.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")


def pytest_collection_finish() -> None:
    """Modules and tests are there to stay: later searches for garbage need not look at them."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


#: Files with engines whose first test is over.
BEGUN: set[Path] = set()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Trainers search for garbage after each run: what their libraries made when they were imported is none."""
    if item.path not in BEGUN and item.get_closest_marker("engine"):
        BEGUN.add(item.path)
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files begin first."""
    items.sort(key=lambda item: place(item.path.relative_to(config.rootpath).as_posix()))
