"""What a server reads ahead: enough that the usual pages find it in memory, and no damaged version stops it."""

from pathlib import Path

from jinja2 import DictLoader, Environment

from schemas.errors import ProvenderError
from storage.layout import manifest_path
from storage.questions import figures
from storage.questions.diff import diff
from storage.questions.remembered import arrays
from storage.questions.rows import rows
from storage.questions.show import show
from storage.reading import ReadingStore
from tests.seeded import seeded
from web.warming import first_things

PAGES = Environment(loader=DictLoader({"one.html": "hello"}), autoescape=True)


def test_pages_of_the_newest_dataset_and_its_comparison_read_nothing_more_of_whole_parts(tmp_path: Path) -> None:
    store = ReadingStore.over(seeded(tmp_path).store.root)
    arrays.clear()
    figures.memory.clear()
    for work in first_things(store, PAGES):
        work()
    known = set(arrays.keys()) | set(figures.memory.keys())
    show(store, "support-bot@v2")
    rows(store, "support-bot@v2", fate="dropped", order="margin")
    diff(store, "support-bot@v1", "support-bot@v2")
    more = set(arrays.keys()) | set(figures.memory.keys())
    assert {key[1] for key in more - known} == set()


def test_a_version_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    store = ReadingStore.over(world.store.root)
    whole = len(list(first_things(store, PAGES)))
    manifest_path(world.store.root, world.strict["clear"]).write_text("{", encoding="utf-8")
    for name in ("dedup", "clear", "select"):
        for path in world.store.paths(world.steps[name], "verdicts/pool"):
            path.chmod(0o600)
            path.write_bytes(b"not Parquet")
    failed = 0
    works = list(first_things(ReadingStore.over(world.store.root), PAGES))
    for work in works:
        try:
            work()
        except ProvenderError:
            failed += 1
    assert 0 < len(works) < whole
    assert 0 < failed < len(works)
