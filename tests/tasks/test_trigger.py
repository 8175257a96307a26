"""A training that is to run elsewhere: what it needs is said in a sentence, and nothing that was done is lost.

tests/flows/test_triggered_finetune.py has both triggers with a real server.
"""

from pathlib import Path

import pytest

from flows.curate import curate
from schemas.errors import EngineDown, UsageError
from storage.store import Store
from tests.tasks.fakes_recipe import recipe


def published(folder: Path, trigger: str, **finetune: object) -> None:
    quick = {"generate": (), "filter": (), "mix": None, "evaluate": None}
    how = {"by": {"backend": "pretend", "max_steps": 3}, "trigger": trigger, **finetune}
    curate.fn(recipe(folder, finetune=how, **quick), folder / "store")


@pytest.mark.parametrize("trigger", ["event", "deployment"])
def test_without_a_server_that_stays_nobody_would_hear_and_it_says_so(tmp_path: Path, trigger: str) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(EngineDown, match=f"finetune.trigger: {trigger} needs a Prefect server that stays.*up --all"),
    ):
        published(tmp_path, trigger)
    store = Store.open(tmp_path / "store")
    assert store.resolve("demo").stage == "publish", "the dataset is there; only its training is not"


@pytest.mark.flow
def test_a_deployment_that_is_not_there_is_named(prefect_server: None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no 'finetune/elsewhere' at http.*provender deploy"):
        published(tmp_path, "deployment", deployment="finetune/elsewhere")
