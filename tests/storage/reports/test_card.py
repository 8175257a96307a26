"""The dataset card: front matter the hub can read, figures, limits, and text that stays text."""

from pathlib import Path

import pytest
import yaml

from storage.questions.show import show
from storage.questions.views import Composition
from storage.reports.card import card, fenced, front_matter, plain, write_card
from tests.seeded import Seeded, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def parts(text: str) -> tuple[dict[str, object], str]:
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_front_matter_and_tables_say_what_the_version_is(world: Seeded, tmp_path: Path) -> None:
    front, body = parts(write_card(world.store, "support-bot", tmp_path / "README.md").read_text())
    assert front["provender"]["ref"] == str(world.v2)
    assert front["size_categories"] == ["n<1K"]
    assert "language" not in front
    assert "synthetic" in front["tags"]
    assert "| dolly | CC-BY-SA-3.0 | 0 | 20 | 74% |" in body
    assert "| low-confidence | confidence | filter | 13 | 0.42 |" in body
    assert "7 rows came with no stated licence." in body
    assert "≥ $0.0080 (1 call without a price)" in body
    assert "provender run recipe.yaml" in body


@pytest.mark.parametrize(
    ("licenses", "told"),
    [
        (["CC-BY-SA-3.0"], "cc-by-sa-3.0"),
        (["Apache-2.0", "MIT"], ["apache-2.0", "mit"]),
        (["CC-BY-SA-3.0", None], "other"),
        (["my own"], "other"),
        ([None], "unknown"),
    ],
    ids=["one", "two", "one unknown", "unheard of", "none"],
)
def test_the_licence_set_is_never_more_than_what_is_known(
    world: Seeded, licenses: list[str | None], told: object
) -> None:
    made_of = tuple(Composition(source="s", license=one, synthetic_depth=0, rows=1) for one in licenses)
    page = show(world.store, "support-bot").model_copy(update={"composition": made_of})
    assert front_matter(page, "x")["license"] == told


def test_hostile_text_makes_no_markup_and_no_front_matter(tmp_path: Path) -> None:
    hostile = "\n---\nlicense: mit\n```\n<script>x</script>[a](javascript:b)|![i](http://e/i.png)"
    world = seeded(tmp_path / "store", hostile=hostile)
    text = card(show(world.store, "support-bot"))
    front, body = parts(text)
    assert front["license"] == "other"
    outside = [part for i, part in enumerate(body.split("````")) if i % 2 == 0]
    assert "<script>" not in "".join(outside)
    assert "](javascript" not in "".join(outside)
    assert "http://e" not in "".join(outside)


def test_a_fence_is_longer_than_any_inside() -> None:
    assert fenced("a ```` b").startswith("`````\n")
    assert plain("a|b\nc") == "a&#124;b c"
