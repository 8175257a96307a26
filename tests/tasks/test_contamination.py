"""What was found, as values: lines per rule and benchmark, mixtures looked at before they repeat, the asking in turn."""

import io
from pathlib import Path

import pytest

from cli.reviewing import found_text, report_text, review_in_turn
from storage.packs.reviews import hits, reviews
from tasks.contamination import check_of, found_by, without_repeats
from tasks.reviewed import precision
from tests.seeded import Seeded, seeded


@pytest.fixture
def world(tmp_path: Path) -> Seeded:
    return seeded(tmp_path / "store")


def test_a_step_of_before_pairs_were_kept_still_tells_its_examples(world: Seeded) -> None:
    lines = found_by(world.store, world.store.describe(world.steps["decontaminate"]))
    assert [(f.method, f.benchmark, f.rule, f.examples, f.items_hit) for f in lines] == [
        ("ngram", "gsm8k", "benchmark-match", 3, 0)
    ]
    assert "benchmark-match" in found_text(lines)


def test_flagged_examples_are_counted_once_over_all_steps(world: Seeded) -> None:
    step = world.steps["decontaminate"]
    pool = dict(world.store.describe(step).step.inputs)["pool"]
    check = check_of(world.store, pool, [step, step])
    assert (check.examples, check.flagged) == (world.store.describe(pool).counts.rows_out, 3)
    assert check_of(world.store, pool, []).flagged == 0


def test_a_mixture_is_looked_at_before_it_repeats(world: Seeded) -> None:
    assert without_repeats(world.store, world.v1) == world.steps["select"]
    assert without_repeats(world.store, world.steps["clear"]) == world.steps["clear"]


def test_hits_are_asked_about_in_turn_and_every_answer_is_kept_at_once(
    world: Seeded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nword for word\ns\nr\n\n"))
    review_in_turn(world.store, hits(world.store, world.v1), "ada")
    assert [(r.item, r.verdict, r.reason, r.who) for r in reviews(world.store, world.v1)] == [
        ("42", "accept", "word for word", "ada"),
        ("7", "reject", "", "ada"),
    ]
    shown = capsys.readouterr().out
    assert "1 of 3" in shown
    assert "no hit is left to review" in shown
    told = report_text([], precision(world.store, world.v1))
    assert told == "no decontaminate step is behind this version"
    lines = found_by(world.store, world.store.describe(world.steps["decontaminate"]))
    assert "50.0%  9.5% to 90.5%" in report_text(lines, precision(world.store, world.v1))


def test_asking_stops_where_the_reviewer_says_so(world: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
    review_in_turn(world.store, hits(world.store, world.v1), "ada")
    assert reviews(world.store, world.v1) == []
