"""Settings that must stand before anything is imported: loopback only, nothing calls home, one Prefect server per session."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

for _name, _value in {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that drive Prefect for minutes begin first, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("flow")}
    items.sort(key=lambda item: item.path not in slow)
