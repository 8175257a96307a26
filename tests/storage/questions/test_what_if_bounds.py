"""What-if over a window of two bounds, over rules whose kept rows have no score, and over any stored score; by hand."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from schemas.errors import UsageError
from schemas.lineage import DatasetRef, Rule
from storage.questions.what_if import what_if
from storage.store import Store
from tests.seeded import Seeded, seeded
from tests.seeding import Builder, verdicts

WINDOW = (
    Rule(name="too-low", says="below the window", threshold=2.0, direction="keep-above"),
    Rule(name="too-high", says="above the window", threshold=6.0, direction="keep-below"),
)


@dataclass
class World:
    store: Store
    pool: DatasetRef
    window: DatasetRef  # scores 0 … 9: 2 to 6 stay
    looser: DatasetRef  # only dropped rows have a score


def filtered(build: Builder, pool: DatasetRef, method: str, rules: tuple[Rule, ...], table: pl.DataFrame) -> DatasetRef:
    draft = build.draft("filter", {"method": method}, {"pool": pool})
    draft.homes = [pool]
    draft.rules = rules
    draft.put("verdicts/pool", table)
    kept = [i for i, fate in enumerate(table["fate"]) if fate == 0]
    draft.put("members", pl.DataFrame({"home": [0] * len(kept), "row": kept}))
    return build.store.commit(draft).ref


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    store = Store.open(tmp_path_factory.mktemp("store"))
    build = Builder(store, "")
    pool = build.ingest("rows", [(f"Question {i}?", f"Answer {i}") for i in range(10)])
    rule = [1 if i < 2 else 2 if i > 6 else 0 for i in range(10)]
    window = filtered(
        build, pool, "window", WINDOW, verdicts([int(r > 0) for r in rule], rule, [float(i) for i in range(10)])
    )
    scores: list[float | None] = [1.0, 1.5, None, None, None, None, None, None, 8.0, 9.0]
    evidence: list[str | None] = [None] * 10
    evidence[1] = '{"also":["too-high"],"words":1}'
    looser = filtered(
        build, pool, "words", WINDOW,
        verdicts([int(s is not None) for s in scores], [1, 1, 0, 0, 0, 0, 0, 0, 2, 2], scores, evidence),
    )  # fmt: skip
    return World(store, pool, window, looser)


def test_both_bounds_of_a_window_move_and_count_a_row_once(world: World) -> None:
    found = what_if(world.store, world.window)
    assert [one.key for one in found.thresholds] == ["window.too-low", "window.too-high"]
    assert found.fixed == ()
    found = what_if(world.store, world.window, {"window.too-low": 4.0, "window.too-high": 8.0})
    assert [(m.key, m.newly_kept, m.newly_dropped, m.kept_after) for m in found.moves] == [
        ("window.too-low", 2, 2, 5),
        ("window.too-high", 2, 2, 5),
    ]
    assert (found.before, found.after_low, found.after_high) == (5, 3, 5)
    assert sorted(line.prompt for line in found.newly_kept) == ["Question 7?", "Question 8?"]
    assert sorted(line.prompt for line in found.newly_dropped) == ["Question 2?", "Question 3?"]
    assert "too-low 2 → 4, too-high 6 → 8: 5 rows would be between 3 and 5" in found.says


def test_one_bound_alone_leaves_the_other_where_it_was(world: World) -> None:
    found = what_if(world.store, world.window, {"window.too-low": 0.0})
    assert (found.moves[0].newly_kept, found.moves[0].newly_dropped) == (2, 0)
    assert {line.prompt for line in found.newly_kept} == {"Question 0?", "Question 1?"}


def test_without_scores_of_kept_rows_a_rule_is_loosened_and_never_tightened(world: World) -> None:
    found = what_if(world.store, world.looser)
    assert [(one.key, one.looser_only, one.scored) for one in found.thresholds] == [
        ("words.too-low", True, 2),
        ("words.too-high", True, 2),
    ]
    found = what_if(world.store, world.looser, {"words.too-low": 0.5, "words.too-high": 8.0})
    assert found.moves[0].newly_kept == 2  # 1.0 and 8.0; 1.5 breaks another rule too, 9.0 is still too high
    assert {line.prompt for line in found.newly_kept} == {"Question 0?", "Question 8?"}
    with pytest.raises(UsageError, match=r"words\.too-low cannot be tightened to 3.*give a value below 2"):
        what_if(world.store, world.looser, {"words.too-low": 3.0})


def test_rules_that_do_not_hold_the_kept_scores_are_named_as_fixed(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    build = Builder(store, "")
    pool = build.ingest("rows", [(f"Question {i}?", f"Answer {i}") for i in range(3)])
    mixed = filtered(build, pool, "mixed", WINDOW, verdicts([0, 0, 1], [0, 0, 1], [9.0, 3.0, 1.0]))
    found = what_if(store, mixed)
    assert found.thresholds == ()
    assert [one.rule for one in found.fixed] == ["too-low", "too-high"]
    assert "share one score" in found.fixed[0].why


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("curated"))


def test_a_bound_on_any_stored_score_drops_the_members_outside_it(curated: Seeded) -> None:
    found = what_if(curated.store, "support-bot@v2", bounds={"ifd": (0.3, 0.8)})
    (bound,) = found.bounds
    scores = [bound.lowest, bound.highest]
    assert scores[0] is not None
    assert bound.drops == found.before - found.after_low > 0
    assert found.after_low == found.after_high
    assert all(not 0.3 <= next(iter(line.scores.values())) <= 0.8 for line in found.newly_dropped)  # type: ignore[operator]
    assert "ifd from 0.3 up to 0.8: 27 rows would be" in found.says
    assert sum(bound.histogram.kept) + sum(bound.histogram.dropped) == 27 - bound.unscored if bound.histogram else False


def test_a_bound_and_a_moved_threshold_count_a_row_once(curated: Seeded) -> None:
    moved = what_if(curated.store, "support-bot@v1", {"clear": 0.42}, shown=0)
    both = what_if(curated.store, "support-bot@v1", {"clear": 0.42}, {"clear": (0.43, None)}, shown=0)
    assert both.after_low <= moved.after_low
    assert what_if(curated.store, "support-bot@v1", bounds={"clear": (None, None)}).after_low == moved.before


def test_a_bound_upside_down_and_an_unknown_score_are_mistakes(curated: Seeded) -> None:
    with pytest.raises(UsageError, match="give the lower bound first"):
        what_if(curated.store, "support-bot@v2", bounds={"ifd": (0.8, 0.3)})
    with pytest.raises(UsageError, match="there is no score 'nothing'"):
        what_if(curated.store, "support-bot@v2", bounds={"nothing": (0.1, None)})
