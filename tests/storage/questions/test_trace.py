"""`trace` on a store that holds every kind of step; the counts are worked by hand in tests/seeded.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import MissingDataset, UsageError
from schemas.lineage import Rule
from storage.questions.trace import trace
from storage.questions.words import comparison, verdict_of
from tests.seeded import Seeded, ids_of, seeded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_a_row_that_clear_dropped_says_so_with_score_threshold_and_margin(world: Seeded) -> None:
    found = trace(world.store, world.dolly[0])
    assert found.outcome == "dropped"
    assert found.sentence == (
        "Dropped at filter by clear: confidence (low-confidence); score 0.2 <= threshold 0.42 (margin 0.22)"
    )
    last = found.hops[-1].verdict
    assert last is not None
    assert last.margin == pytest.approx(-0.22)
    assert found.occurrences == ()
    assert [hop.step.stage for hop in found.hops] == ["gather", "dedup", "filter", "filter", "filter"]


def test_a_duplicate_names_the_row_that_stays(world: Seeded) -> None:
    found = trace(world.store, world.dolly[17])
    assert found.sentence.startswith("Dropped at dedup by exact: the same text stands earlier (repeats-another)")
    assert json.loads(found.hops[-1].verdict.evidence) == {"repeats": world.dolly[4], "similarity": 1.0}


def test_a_contaminated_row_shows_benchmark_item_and_span(world: Seeded) -> None:
    flagged = ids_of(world.store, world.strict["clear"])
    found = trace(world.store, flagged[3], within="support-bot")
    assert found.outcome == "dropped"
    assert "score 0.8 >= threshold 0.5 (margin 0.3)" in found.sentence
    assert json.loads(found.hops[-1].verdict.evidence)["item"] == "42"


def test_a_flagged_row_that_was_kept_carries_its_rule_and_evidence(world: Seeded) -> None:
    flagged = ids_of(world.store, world.strict["clear"])[6]
    hop = next(hop for hop in trace(world.store, flagged).hops if hop.step.stage == "decontaminate")
    assert hop.verdict.fate == "keep"
    assert hop.verdict.rule == "benchmark-match"
    assert hop.verdict.margin == pytest.approx(0.05, abs=1e-6)


def test_a_kept_generated_row_goes_back_to_its_seeds_prompts_and_refused_siblings(world: Seeded) -> None:
    found = trace(world.store, world.synthetic[0])
    assert found.outcome == "kept"
    assert found.sentence.startswith("Kept: in support-bot@v2 at position 7 of 27; it passed 7 verdicts")
    assert found.creation.how == "generated"
    assert [parent.id for parent in found.creation.parents] == world.seeds[:2]
    assert {ancestor.id for ancestor in found.ancestors} == set(world.seeds[:2])
    (call,) = found.creation.calls
    assert call.request["messages"][0]["content"].startswith("Come up with a series of tasks")
    assert call.request["sampling"]["temperature"] == 0.7
    assert call.reply == "Invented text 0"
    assert [sibling.id for sibling in found.creation.siblings] == [world.synthetic[1]]
    assert [refused.reason for refused in found.creation.refused] == ["too-similar", "too-similar"]
    ranked = next(hop for hop in found.hops if hop.kind == "ranked")
    assert ranked.rank == 7
    assert ranked.scores["loss"] == pytest.approx(2.0 + ranked.position / 10)


def test_an_unknown_price_stays_unknown(world: Seeded) -> None:
    assert trace(world.store, world.synthetic[9]).creation.calls[0].cost_usd is None
    assert trace(world.store, world.synthetic[0]).creation.calls[0].cost_usd == 0.002


def test_an_edited_row_shows_old_and_new_text_and_lives_on_as_its_successor(world: Seeded) -> None:
    old = trace(world.store, world.dolly[2], within="support-bot@v1")
    (edit,) = old.edits
    assert old.outcome == "edited"
    assert edit.old_id == world.dolly[2]
    assert edit.new[-1].content == edit.old[-1].content + " (corrected)"
    assert edit.new_id[:12] in old.sentence
    new = trace(world.store, edit.new_id, within="support-bot@v1")
    assert new.outcome == "kept"
    assert new.creation.how == "edited"
    assert [hop.sentence for hop in new.hops] == [hop.sentence for hop in old.hops]
    assert new.occurrences


def test_a_seed_says_what_was_made_from_it(world: Seeded) -> None:
    found = trace(world.store, world.seeds[1])
    assert found.outcome == "read"
    assert found.sentence == "Read, not a candidate: 4 examples made from it"
    made = {relative.id for relative in found.descendants}
    assert made == {world.synthetic[i] for i in (0, 1, 6, 7)}
    assert found.hops[0].made == 4


def test_a_repeated_row_counts_its_occurrences(world: Seeded) -> None:
    first = ids_of(world.store, world.steps["select"])[0]
    found = trace(world.store, first, within="support-bot@v1")
    assert "2 times over" in found.sentence
    newest = next(occurrence for occurrence in found.occurrences if occurrence.tag == "support-bot@v1")
    assert (newest.count, newest.positions) == (2, (23, 24))


def test_within_decides_which_recipe_answers(world: Seeded) -> None:
    between = [
        example
        for example in ids_of(world.store, world.steps["publish"])
        if example not in ids_of(world.store, world.strict["clear"])
    ]
    example = between[0]
    assert trace(world.store, example, within="support-bot@v1").outcome == "kept"
    assert trace(world.store, example, within="support-bot@v2").outcome == "dropped"
    assert trace(world.store, example).tag == "support-bot@v2"
    assert "support-bot@v2" in trace(world.store, example, within=world.v1).also_in


def test_the_training_that_saw_the_row_is_named(world: Seeded) -> None:
    found = trace(world.store, world.synthetic[0])
    assert [step.stage for step in found.trained] == ["finetune"]


def test_a_unique_prefix_is_enough_and_an_ambiguous_one_is_refused(world: Seeded) -> None:
    assert trace(world.store, world.dolly[0][:12]).example.id == world.dolly[0]
    assert trace(world.store, bytes.fromhex(world.dolly[0])).example.id == world.dolly[0]
    with pytest.raises(UsageError, match="first 6 to 32 hexadecimal digits"):
        trace(world.store, "abc")
    with pytest.raises(MissingDataset, match="begins with 00000000000000000000000000000000"):
        trace(world.store, "0" * 32)


def test_two_examples_with_one_beginning_are_listed(tmp_path: Path) -> None:
    import polars as pl

    from schemas.examples import EXAMPLES, turns
    from schemas.lineage import Step
    from storage.store import Store

    store = Store.open(tmp_path)
    draft = store.draft(Step(stage="ingest", method={"source": "x"}))
    ids = [bytes.fromhex("abcdef" + f"{i:026x}") for i in range(2)]
    rows = {
        "id": ids,
        "content_hash": ids,
        "source": ["x"] * 2,
        "messages": [turns(("user", "q"), ("assistant", "a"))] * 2,
    }
    draft.put("examples", pl.DataFrame(rows, schema_overrides={"messages": EXAMPLES["messages"]}))
    draft.homes = [draft.step.output]
    store.commit(draft)
    with pytest.raises(UsageError, match="abcdef is the beginning of several ids"):
        trace(store, "abcdef")
    assert trace(store, ids[1]).sentence.startswith("Kept: in ingest@")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_kept_exactly_if_the_published_version_holds_it(world: Seeded, data: st.DataObject) -> None:
    example = data.draw(st.sampled_from(world.dolly + world.synthetic))
    version = data.draw(st.sampled_from([world.v1, world.v2]))
    found = trace(world.store, example, within=version)
    members = ids_of(world.store, version)
    lives_as = found.edits[-1].new_id if found.edits else example
    assert (lives_as in members) == ("Kept: in" in found.sentence)
    assert sum(hop.verdict is not None and hop.verdict.fate == "reject" for hop in found.hops) == (
        lives_as not in members
    )


@given(
    st.floats(-1e6, 1e6, allow_nan=False, width=32),
    st.floats(-1e6, 1e6, allow_nan=False, width=32),
    st.sampled_from(["keep-above", "keep-below"]),
)
def test_the_margin_is_positive_on_the_kept_side(score: float, threshold: float, direction: str) -> None:
    rule = Rule(name="r", says="s", threshold=threshold, direction=direction)
    verdict = verdict_of(1, 1, score, None, [rule])
    kept_side = score > threshold if direction == "keep-above" else score < threshold
    assert (verdict.margin > 0) <= kept_side
    sign = comparison(verdict).split()[2]
    assert {"<=": score <= threshold, ">=": score >= threshold, "=": verdict.margin == 0}[sign]


def test_a_story_needs_neither_numpy_nor_duckdb_so_the_command_starts_quickly() -> None:
    code = (
        "import sys, cli.main, cli.trace_text, storage.reading, storage.questions.trace\n"
        "print(sorted({'numpy', 'duckdb', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout == "[]\n"
