"""Fates of rows whose steps were read together are those of rows read one by one, and need no further reading."""

from pathlib import Path

import pytest

from storage.questions.find import Place, Scope, scope_of, whole
from storage.questions.together import read_together
from storage.questions.trace import fate
from storage.seek import Reader
from tests.seeded import TAG, Seeded, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def _everything(reader: Reader, scope: Scope) -> list[Place]:
    """Every example of a lineage: sources, what was written, what was edited into."""
    found: list[Place] = []
    for manifest in scope.manifests:
        if manifest.parts.get("examples"):
            ids = reader.scan(manifest.ref, "examples").select("id").collect()["id"].to_list()
            found += [Place(id_, manifest.ref, row) for row, id_ in enumerate(ids)]
    return found


@pytest.mark.parametrize("named", [f"{TAG}@v1", f"{TAG}@v2", None])
def test_every_fate_is_the_same_as_one_by_one(world: Seeded, named: str | None) -> None:
    reader = Reader(world.store)
    scope = whole(reader) if named is None else scope_of(reader, named)
    places = _everything(reader, scope)
    assert len(places) > 50
    read_together(reader, scope, places)
    together = [fate(reader, scope, place) for place in places]
    assert together == [fate(Reader(world.store), scope, place) for place in places]
    assert {outcome for outcome, _ in together} >= {"kept", "dropped", "edited"}


def test_a_step_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    world = seeded(tmp_path / "store")
    scope = scope_of(Reader(world.store), f"{TAG}@v1")
    for path in world.store.paths(world.steps["select"], "verdicts/pool"):
        path.unlink()
    reader = Reader(world.store)
    places = _everything(reader, scope)
    read_together(reader, scope, places)
    (dropped,) = [place for place in places if place.id.hex() == world.dolly[8]]
    outcome, sentence = fate(reader, scope, dropped)
    assert (outcome, sentence.startswith("Dropped at filter")) == ("dropped", True)
