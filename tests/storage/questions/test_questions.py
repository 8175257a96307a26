"""What if, blast radius, cost, mixtures, neighbours, graphs that collapse, files for spreadsheets: worked by hand."""

import csv
import io
import re
import statistics
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.lineage import Counts, Manifest, Step
from storage.packs.reviews import hits, record
from storage.questions import figures
from storage.questions.benchmarks import benchmarks, hits_page
from storage.questions.blast import blast, causes, recall_list
from storage.questions.cost import cost
from storage.questions.lineage import Edge, Lineage, Node, collapsed, lineage, path_between
from storage.questions.mixtures import Table, mixtures, points_of
from storage.questions.neighbors import neighbors
from storage.questions.progress import run_page, runs_page
from storage.questions.show import show
from storage.questions.what_if import what_if
from storage.reports.draw_graph import graph
from storage.reports.sankey import sankey
from storage.reports.spreadsheets import csv_lines, harmless, jsonl_lines
from storage.runs import RunLog
from storage.store import Store
from tests.seeded import Seeded, seeded

STEP = Step(stage="rank", method={"method": "ifd"})
PLAIN = Manifest(ref=STEP.output, step=STEP, counts=Counts(), digest="0", commit_id="0")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


# ---- what if


def test_a_lower_threshold_brings_back_the_rows_between_the_two(world: Seeded) -> None:
    """Clear dropped 13 of 43 at 0.42 and 5 of 43 at 0.30: moving it keeps 8 more, whose later fate is unknown."""
    found = what_if(world.store, "support-bot@v2", {"clear": 0.30})
    (move,) = found.moves
    assert (move.kept_before, move.kept_after, move.newly_kept, move.newly_dropped) == (30, 38, 8, 0)
    assert (found.before, found.after_low, found.after_high) == (27, 27, 35)
    assert sum(part.may_come for part in found.parts) == 8
    assert {row.id for row in found.newly_kept} <= {i.hex() for i in world.store.pool(world.strict["correct"])["id"]}
    assert "between 27 and 35" in found.says
    assert "not run again" in found.note


def test_a_higher_threshold_takes_exactly_the_members_below_it(world: Seeded) -> None:
    found = what_if(world.store, world.v1, {"clear": 0.42})
    (move,) = found.moves
    assert (move.newly_kept, move.newly_dropped) == (0, 8)
    lost = found.before - found.after_low
    table = world.store.part(world.steps["clear"], "verdicts/pool")
    ids = world.store.pool(world.steps["correct"])["id"].to_list()
    fallen = {i for i, s, f in zip(ids, table["score"], table["fate"], strict=True) if f == 0 and s <= 0.42}
    assert lost == sum(1 for member in world.store.pool(world.v1)["id"] if member in fallen)
    assert found.after_high == found.after_low
    distances = [abs((row.verdict.score or 0) - 0.42) for row in found.newly_dropped if row.verdict]
    assert distances == sorted(distances)


def test_a_score_on_the_threshold_stays_where_the_step_put_it(world: Seeded) -> None:
    """keep-top at 0.14 kept the row whose quality is 0.14: at 0.14 nothing moves."""
    found = what_if(world.store, world.v2, {"keep-top": 0.14})
    assert (found.moves[0].newly_kept, found.moves[0].newly_dropped) == (0, 0)
    assert found.after_low == found.before


def test_an_edited_member_falls_with_what_it_was(world: Seeded) -> None:
    """Moving the length filter above every score takes all members, the two edited ones too."""
    found = what_if(world.store, world.v2, {"heuristics": 1000.0}, shown=0)
    assert (found.after_low, found.newly_dropped) == (0, ())


def test_two_moves_count_a_row_once(world: Seeded) -> None:
    both = what_if(world.store, world.v2, {"clear": 2.0, "heuristics": 1000.0}, shown=0)
    assert both.after_low == 0


def test_what_cannot_be_moved_is_refused_with_the_choices(world: Seeded) -> None:
    with pytest.raises(UsageError, match=r"no threshold 'ifd'.*heuristics, clear, ngram, keep-top"):
        what_if(world.store, world.v2, {"ifd": 0.1})
    with pytest.raises(UsageError, match="give a number"):
        what_if(world.store, world.v2, {"clear": float("nan")})


def test_a_damaged_step_is_named_and_the_other_thresholds_stand(tmp_path: Path) -> None:
    broken = seeded(tmp_path)
    (part,) = broken.store.paths(broken.strict["clear"], "verdicts/pool")
    part.unlink()
    found = what_if(broken.store, broken.v2)
    assert [one.key for one in found.thresholds] == ["heuristics", "ngram", "keep-top"]
    assert str(broken.strict["clear"]) in [one.ref for one in found.fixed]


# ---- blast radius


def test_a_seed_reaches_what_was_made_from_it_and_the_versions_that_hold_it(world: Seeded) -> None:
    """Seed 0 is a parent of generated rows 0, 5 and 6 (parents are i and i + 1 of six seeds)."""
    found = blast(world.store, "example", world.seeds[0])
    assert (found.direct, found.descendants) == (1, 3)
    made = {world.synthetic[i] for i in (0, 5, 6)}
    members = [i.hex() for i in world.store.pool(world.v2)["id"]]
    v2 = next(hit for hit in found.versions if hit.ref == str(world.v2))
    assert v2.rows == sum(1 for member in members if member in made)
    assert v2.tags == ("support-bot@v2",)
    assert v2.trained == (str(world.strict["finetune"]),)
    assert found.clean > 0
    assert "2 models trained on it" in found.says


def test_a_source_a_model_a_licence_and_a_call_are_causes_too(world: Seeded) -> None:
    assert (blast(world.store, "source", "seeds").direct, blast(world.store, "source", "seeds").descendants) == (6, 10)
    assert blast(world.store, "model", "sprout").direct == 10
    assert blast(world.store, "license", "CC-BY-SA-3.0").descendants == 10
    key = world.store.part(world.steps["synthetic"], "calls")["key"][0].hex()
    assert blast(world.store, "call", key).direct == 2
    prompt = next(cause.name for cause in causes(world.store) if cause.kind == "prompt")
    assert blast(world.store, "prompt", prompt).direct == 10
    assert {(c.kind, c.name) for c in causes(world.store)} >= {("source", "dolly"), ("model", "sprout")}


def test_an_edited_row_is_affected_by_its_source(world: Seeded) -> None:
    found = blast(world.store, "source", "dolly", within=world.v2)
    members = world.store.pool(world.v2)
    assert next(hit.rows for hit in found.versions if hit.ref == str(world.v2)) == (members["source"] == "dolly").sum()


def test_an_unknown_cause_is_refused(world: Seeded) -> None:
    with pytest.raises(UsageError, match="knows no source 'nobody'"):
        blast(world.store, "source", "nobody")
    with pytest.raises(UsageError, match="32 hexadecimal"):
        blast(world.store, "call", "xyz")


def test_a_source_whose_ingest_is_gone_is_known_by_the_versions_that_count_it(tmp_path: Path) -> None:
    alone = seeded(tmp_path)
    gone = alone.steps["dolly"]
    (tmp_path / "steps" / gone.stage / f"{gone.fingerprint}.json").unlink()
    found = blast(Store.open(tmp_path), "source", "dolly")
    assert found.direct == 2  # an answer that was corrected has a home of its own, once in each of two runs
    assert {alone.steps["correct"], alone.strict["correct"]} == {
        m.ref for m in alone.store.versions() if m.ref.stage == "filter" and m.parts.get("examples")
    }
    problems = {one.place: one.problem for one in found.damage}
    assert problems[str(alone.v2)] == f"not counted here: rows that {gone} made, which the store has no more"


def test_a_recall_list_names_each_affected_example_once_with_its_datasets(world: Seeded) -> None:
    listed = list(recall_list(world.store, "source", "seeds"))
    assert len(listed) == 16 == len({row["id"] for row in listed})
    by_id = {row["id"]: row for row in listed}
    assert by_id[world.seeds[0]]["direct"]
    assert by_id[world.seeds[0]]["in"] == ""
    members = {i.hex() for i in world.store.pool(world.v2)["id"]}
    for made in world.synthetic:
        assert ("support-bot@v2" in by_id[made]["in"].split()) == (made in members)


# ---- files


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1dx", "\n=cmd"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert str(harmless(text)).startswith("'")


@given(st.lists(st.text(max_size=20), max_size=4))
def test_a_csv_line_reads_back_as_its_cells_and_none_is_a_formula(cells: list[str]) -> None:
    names = [str(i) for i in range(len(cells))]
    told = "".join(csv_lines([dict(zip(names, cells, strict=True))], names)) if names else ""
    if not names:
        return
    (_, back) = list(csv.reader(io.StringIO(told, newline="")))
    for cell, given_ in zip(back, cells, strict=True):
        assert cell.removeprefix("'").replace("\x00", "") == given_.replace("\x00", "").removeprefix("'")
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_stay_numbers_and_jsonl_is_as_it_is() -> None:
    assert list(csv_lines([{"a": -1.5, "b": None}], ["a", "b"]))[1] == "-1.5,\r\n"
    assert list(jsonl_lines([{"a": "=1", "ü": 1}])) == ['{"a": "=1", "ü": 1}\n']


# ---- cost, mixtures, neighbours, benchmarks, runs


def test_cost_adds_up_by_run_stage_and_model_and_unknown_stays_unknown(world: Seeded) -> None:
    """Five calls of 150 tokens; four cost 0.002, one has no price."""
    found = cost(world.store)
    assert found.money.calls == 5
    assert found.money.usd is None
    assert found.money.known_usd == pytest.approx(0.008)
    assert [(one.name, one.money.calls) for one in found.by_model] == [("sprout", 5)]
    assert next(one for one in found.by_stage if one.name == "generate").seconds == 1.5
    assert [one.name for one in found.by_run] == ["run-1"]
    assert found.steps[0].stage == "generate"


def test_mixtures_show_weights_tables_and_what_a_law_predicted(tmp_path: Path) -> None:
    made = seeded(tmp_path)
    draft = made.store.draft(Step(stage="mix", method={"method": "law"}, inputs=(("pool", made.steps["select"]),)))
    draft.keep_members(made.store.describe(made.steps["select"]))
    draft.put("sidecar/proxy_runs", pl.DataFrame({"run": ["a", "b"], "predicted": [1.0, 2.0], "measured": [1.1, None]}))
    noted = {
        "best_run": {"loss": 0.9939123, "shares": {"dolly": 0.5}},
        "capped": [],
        "fits": [{"pool": "dolly", "r2": 0.9}],
        "intervals": {"dolly": [0.3530216789820518, 0.6]},
        "law": "log-linear",
        "left_out": {},
        "says": "better than uniform",
    }
    draft.summary = {"notes": noted, "weights": {"dolly": 1.0}}
    made.store.commit(draft)
    found = {one.method: one for one in mixtures(made.store).mixtures}
    law = found["law"]
    assert law.notes == (
        ("says", "better than uniform"),
        ("intervals", "dolly 0.353 to 0.6"),
        ("law", "log-linear"),
        ("best_run", "loss 0.9939, shares (dolly 0.5)"),
    ), "what was found first, empty notes not at all, no digit that says nothing"
    assert [table.name for table in law.tables] == ["proxy_runs", "fits"]
    assert [(p.name, p.predicted, p.measured) for p in law.points] == [("a", 1.0, 1.1)]
    assert law.pools[0].weight_fraction == 1.0
    assert found["temperature"].metrics
    assert points_of(Table(name="x", columns=("a",), rows=((1,),))) == ()


def test_neighbours_name_what_stands_behind_them(world: Seeded) -> None:
    found = neighbors(world.store, world.synthetic[0], "support-bot@v2")
    assert found.compared == found.of == 27
    assert "static word vectors" in found.by
    assert found.neighbors[0].preview.startswith("Invent question")
    given_ = [one.similarity for one in found.neighbors]
    assert given_ == sorted(given_, reverse=True)
    assert world.synthetic[0] not in [one.id for one in found.neighbors]


def test_hits_come_with_counts_and_reviews(tmp_path: Path) -> None:
    made = seeded(tmp_path)
    page = hits_page(made.store, made.v2)
    assert [(one.benchmark, one.hits) for one in page.counts] == [("gsm8k", 3)]
    assert (len(page.hits), page.total, page.reviewed) == (3, 3, 0)
    record(made.store, hits(made.store, made.v2)[0], "reject", who="ada", reason="no")
    after = hits_page(made.store, made.v2, unreviewed=True)
    assert (len(after.hits), after.reviewed, after.false_alarms) == (2, 1, 1)
    met = benchmarks(made.store).met[0]
    assert (met.tag, met.hits, met.reviewed) == ("support-bot@v2", 3, 1)


def test_a_run_shows_its_steps_while_it_goes_and_after(tmp_path: Path) -> None:
    made = seeded(tmp_path)
    log = RunLog(made.store.root, "demo", "curate", "20261121-000000-abcdef")
    log.event({"kind": "start", "stage": "ingest", "what": "dolly", "ref": "ingest@0000000000000001"})
    log.event({"kind": "done", "stage": "ingest", "what": "dolly", "ref": "ingest@0000000000000001", "seconds": 0.5,
               "counts": {"created": 40}})  # fmt: skip
    log.event({"kind": "start", "stage": "filter", "what": "clear", "ref": "filter@0000000000000002"})
    log.progress({"stage": "filter", "done": 30, "total": 120, "note": "calls"})
    log.progress({"stage": "filter", "done": 31, "total": 120, "note": "calls"})  # within the same second: not written
    page = run_page(made.store, "20261121")
    assert next((step.stage, step.state, step.took) for step in page.steps) == ("ingest", "done", 0.5)
    assert (page.steps[1].state, page.steps[1].done, page.steps[1].total) == ("working", 30, 120)
    assert "30 of 120" in page.says
    assert runs_page(made.store).working == 1
    log.end("stopped", error="at the ceiling")
    ended = run_page(made.store, "20261121")
    assert (ended.steps[1].state, ended.run.status) == ("cut", "stopped")
    assert "at the ceiling" in ended.says


# ---- pictures


def shards(count: int) -> Lineage:
    """One source, ``count`` filters alike beside each other, one gather."""

    def node(ref: str, stage: str, hops: int) -> Node:
        return Node(ref=ref, stage=stage, method="m", says=stage, change="", rows_out=10, hops=hops)

    middle = [f"filter@{i:016x}" for i in range(count)]
    nodes = [
        node("ingest@a", "ingest", -2),
        *(node(ref, "filter", -1) for ref in middle),
        node("gather@z", "gather", 0),
    ]
    edges = [Edge(origin="ingest@a", made=ref, role="pool", consumed=True, rows=10) for ref in middle]
    edges += [Edge(origin=ref, made="gather@z", role="pool", consumed=True, rows=10) for ref in middle]
    return Lineage(ref="gather@z", nodes=tuple(nodes), edges=tuple(edges))


def test_versions_alike_become_one_box_with_a_number() -> None:
    found = collapsed(shards(37))
    assert [(node.stage, node.stands_for, node.rows_out) for node in found.nodes] == [
        ("ingest", 1, 10), ("filter", 37, 370), ("gather", 1, 10)]  # fmt: skip
    assert len(found.edges) == 2
    assert found.edges[0].rows == 370
    assert len(found.nodes[1].alike) == 36
    assert collapsed(shards(4)) == shards(4)


def test_the_way_between_two_versions_is_all_that_lies_on_it(world: Seeded) -> None:
    found = path_between(world.store, world.strict["correct"], world.v2)
    stages = [node.stage for node in found.nodes]
    assert stages == ["filter", "filter", "decontaminate", "rank", "select", "mix", "publish"]
    assert {node.ref for node in path_between(world.store, world.v2, world.strict["correct"]).nodes} == {
        node.ref for node in found.nodes
    }
    apart = path_between(world.store, world.v1, world.v2)
    assert {node.ref for node in apart.nodes} == {str(world.v1), str(world.v2)}


def test_the_flow_picture_has_a_band_per_input_and_a_fall_per_loss(world: Seeded) -> None:
    page = show(world.store, "support-bot@v2")
    picture = str(sankey(page.funnel, lambda ref, fate, rule: f"/rows/{ref}?fate={fate}"))
    assert picture.count('class="fall dropped"') == 5
    assert picture.count('class="fall refused"') == 2
    assert "−13" in picture
    assert f"/rows/{world.strict['clear']}?fate=reject" in picture
    assert sankey(()) == ""


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_the_median_of_a_histogram_is_the_median(values: list[float]) -> None:
    found = figures._histogram(PLAIN, "score", pl.Series(values, dtype=pl.Float32), None, ())
    assert found is not None
    assert found.median == pytest.approx(statistics.median(pl.Series(values, dtype=pl.Float32).to_list()))
    assert sum(found.kept) == len(values)


def test_a_long_chain_is_folded_and_no_two_boxes_share_a_place(world: Seeded) -> None:
    picture = str(graph(lineage(world.store, "support-bot@v2")))
    boxes = re.findall(r'<rect class="box[^"]*" x="([\d.]+)" y="([\d.]+)"', picture)
    assert len(boxes) == len(set(boxes)) == 16
    assert max(float(x) for x, _ in boxes) < 5 * 212 + 16
    assert " h9 V" in picture  # the way into the next line
