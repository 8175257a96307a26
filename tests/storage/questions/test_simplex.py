"""The triangle of three sources and the whiskers of weights: places by hand, and real measured mixtures on their pages."""

import json
from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

from backends.tune.simulated import SimulatedTuner
from flows.optimise_mixture import optimise_mixture
from methods.mix.log_linear import LogLinear
from methods.mix.temperature import Temperature
from schemas.lineage import DatasetRef
from schemas.recipe import BackendChoices
from schemas.sources import SourceSpec
from storage.questions.mixtures import mixtures
from storage.questions.simplex import Mark, Measured, Simplex, marks_of, measured_of, normalized
from storage.reports.draw import share_bar
from storage.reports.draw_simplex import CORNERS, SIDE, clean, place, shade, simplex, told
from storage.reports.report import html, report_of
from storage.store import Store
from tasks.adhoc import adhoc_bench
from tasks.gather import gather
from tasks.ingest import ingest
from tests.web.parsed import Page
from web.app import create_app

SOURCES = ("code", "chat", "maths")


def picture(*measured: Measured, sources: tuple[str, str, str] = SOURCES) -> Simplex:
    marks = (Mark(name="proposed", shares=(0.5, 0.25, 0.25)), Mark(name="uniform", shares=(1 / 3, 1 / 3, 1 / 3)))
    return Simplex(ref="mix@0", method="log-linear", sources=sources, measured=measured, marks=marks)


def at(shares: tuple[float, float, float], loss: float | None) -> Measured:
    return Measured(shares=shares, loss=loss, runs=int(loss is not None), failed=int(loss is None), examples=100)


# ---- places


def test_one_source_alone_is_a_corner_and_equal_shares_are_the_middle() -> None:
    """Side 260: the height is 260 * sqrt(3) / 2 = 225.167, and the barycentre lies a third of it above the base."""
    assert (
        (146.0, 26.0),
        (16.0, pytest.approx(251.167, abs=1e-3)),
        (276.0, pytest.approx(251.167, abs=1e-3)),
    ) == CORNERS
    assert place((1, 0, 0)) == CORNERS[0]
    assert place((0, 1, 0)) == CORNERS[1]
    assert place((0, 0, 1)) == CORNERS[2]
    assert place((1 / 3, 1 / 3, 1 / 3)) == pytest.approx((146.0, 176.111), abs=1e-3)
    assert place((0, 0.5, 0.5)) == pytest.approx((146.0, 251.167), abs=1e-3), "the middle of the base"
    assert place((0.5, 0.25, 0.25)) == pytest.approx((146.0, 138.583), abs=1e-3), "half the height above the base"
    for (x1, y1), (x2, y2) in ((CORNERS[0], CORNERS[1]), (CORNERS[1], CORNERS[2]), (CORNERS[2], CORNERS[0])):
        assert ((x1 - x2) ** 2 + (y1 - y2) ** 2) ** 0.5 == pytest.approx(SIDE), "equilateral"


def test_a_dot_is_fuller_the_lower_its_loss() -> None:
    assert [shade(loss, [1.0, 2.0, 3.0]) for loss in (1.0, 2.0, 3.0)] == pytest.approx([1.0, 0.56, 0.12])
    assert shade(2.0, [2.0, 2.0]) == 1.0


def test_the_picture_has_each_mixture_where_it_belongs_and_says_all_of_it_in_words() -> None:
    drawn = str(simplex(picture(at((1, 0, 0), 1.0), at((0, 1, 0), 2.0), at((0, 0, 1), None))))
    found = Page(drawn)
    dots = {(a["class"], a["cx"], a["cy"]): a.get("fill-opacity") for tag, a in found.tags if tag == "circle"}
    assert dots[("proxy", "146", "26")] == "1"
    assert dots[("proxy", "16", "251.17")] == "0.12"
    assert dots[("proxy failed", "276", "251.17")] is None, "what was not measured is open"
    assert ("mark", "146", "176.11") in dots, "uniform"
    diamond = next(a["points"] for tag, a in found.tags if tag == "polygon" and a["class"] == "mark full")
    assert diamond == "146.00,131.58 153.00,138.58 146.00,145.58 139.00,138.58"
    for said in (
        "mixtures of code, chat, maths",
        "3 mixtures, 3 proxy runs.",
        "Measured losses 1 to 2 nats, the fuller a dot the lower; least at code 100.0 %, chat 0.0 %, maths 0.0 %.",
        "1 run ended without a finite loss",
        "Proposed: code 50.0 %, chat 25.0 %, maths 25.0 %.",
        "Uniform: code 33.3 %, chat 33.3 %, maths 33.3 %.",
    ):
        assert said in found.text
    assert {tag for tag, _ in found.tags} == {
        "svg", "title", "desc", "polygon", "line", "text", "circle",
    }  # fmt: skip
    assert not any(name in ("style", "href") or name.startswith("on") for _, a in found.tags for name in a)


def test_labels_of_mixtures_that_coincide_do_not_cover_each_other() -> None:
    even = (1 / 3, 1 / 3, 1 / 3)
    marks = tuple(Mark(name=name, shares=even) for name in ("proposed", "uniform", "proportional", "taken"))
    drawn = Page(str(simplex(picture(at(even, 1.0)).model_copy(update={"marks": marks}))))
    heights = [float(a["y2"] or 0) for tag, a in drawn.tags if tag == "line" and a["class"] == "leader"]
    assert heights == pytest.approx([176.11, 204.11, 232.11, 260.11])
    assert "every loss 1" in drawn.text


def test_a_hostile_source_name_stays_text() -> None:
    name = "<script>\u202e\x1b"
    drawn = str(simplex(picture(at((1, 0, 0), 1.0), sources=(name, "b", "c" * 40))))
    assert "<script" not in drawn
    assert "\u202e" not in drawn
    assert "&lt;script&gt;\ufffd\ufffd" in drawn
    assert clean("c" * 40) == "c" * 17 + "…"


# ---- what is stored


def test_seeds_of_one_mixture_are_one_dot_and_failures_are_counted() -> None:
    table = pl.DataFrame(
        {
            "w_a": [0.5, 0.5, 0.2, 0.5, None],
            "w_b": [0.3, 0.3, 0.2, 0.3, 0.1],
            "w_c": [0.2, 0.2, 0.6, 0.2, 0.1],
            "measured": [1.0, 2.0, None, 5.0, 1.0],
            "examples": [100, 100, 100, 200, 100],
        }
    )
    found = measured_of(table, ["w_a", "w_b", "w_c"])
    assert [(one.shares, one.loss, one.runs, one.failed, one.examples) for one in found] == [
        ((0.5, 0.3, 0.2), 1.5, 2, 0, 100),
        ((0.2, 0.2, 0.6), None, 0, 1, 100),
        ((0.5, 0.3, 0.2), 5.0, 1, 0, 200),
    ], "another size is another dot; a run without a share has no place"
    assert "Runs learned from 100 to 200 examples" in " ".join(told(picture(*found)))


def test_named_mixtures_are_those_that_the_step_knows() -> None:
    notes = {"asked": {"a": 0.5, "b": 0.5, "c": 0.0}, "learned_from": {"a": 10, "b": 10, "c": 20}}
    marks = marks_of({"notes": notes, "weights": {"a": 0.2, "b": 0.8, "c": 0}}, "abc")
    assert {mark.name: mark.shares for mark in marks} == {
        "proposed": (0.5, 0.5, 0.0),
        "uniform": (1 / 3, 1 / 3, 1 / 3),
        "proportional": (0.25, 0.25, 0.5),
        "taken": (0.2, 0.8, 0.0),
    }
    assert [mark.name for mark in marks_of({"weights": {"a": 1, "b": 1, "c": 2}}, "abc")] == ["proposed", "uniform"]
    assert [mark.name for mark in marks_of({}, "abc")] == ["uniform"]
    assert normalized([1, -1, 1]) is normalized([0, 0, 0]) is normalized([1, float("nan"), 1]) is None


# ---- whiskers


def test_the_whisker_ends_where_the_interval_does() -> None:
    """160 pixels are the whole: 25 % to 75 % is 40 to 120."""
    drawn = Page(str(share_bar(0.5, 0.5, (0.25, 0.75))))
    paths = [a["d"] for tag, a in drawn.tags if tag == "path"]
    assert paths == ["M40.00 2.5V7.5M40.00 5H120.00M120.00 2.5V7.5"] * 2, "once as its background"
    assert "95 % interval of the weight: 25.0% to 75.0%" in drawn.text
    assert "path" not in {tag for tag, _ in Page(str(share_bar(0.5, 0.5))).tags}, "none is invented"


# ---- with a real store


def mixed(folder: Path, names: str) -> Store:
    """Sources of 40, 60, 80 … examples, mixed by a measured law over simulated proxies and by a formula."""
    bench, refs = adhoc_bench(folder / "store", BackendChoices()), dict[str, DatasetRef]()
    for place_, name in enumerate(names):
        rows = [{"prompt": f"skill-{name} question {i}?", "completion": f"answer {i}"} for i in range(40 + 20 * place_)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        refs[name] = ingest(name, SourceSpec(path=str(folder / f"{name}.jsonl"), shape="prompt-completion"), bench)
    pool = str(gather(refs, bench))
    size = len(names)
    affinity = tuple(tuple(1.0 if i == j else 0.2 for j in range(size)) for i in range(size))
    tuner = SimulatedTuner(skills=tuple(f"skill-{n}" for n in names), affinity=affinity, rate=0.1, noise=0.002)
    law = LogLinear(
        kl=0, proxies=12, bootstraps=8, check_seeds=2, proxy_examples=60, eval_examples=10, total_examples=90
    )
    for method in (law, Temperature(total_examples=90)):
        optimise_mixture.fn(pool, method, store=folder / "store", backends=BackendChoices(tune=tuner))
    return Store.open(folder / "store")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return mixed(tmp_path_factory.mktemp("three"), "abc")


def test_a_measured_mixture_of_three_sources_has_its_triangle_and_whiskers_on_the_page_and_in_the_report(
    three: Store,
) -> None:
    found = {one.method: one for one in mixtures(three).mixtures}
    law, formula = found["log-linear"], found["temperature"]
    assert formula.simplex is None, "nothing was measured"
    assert not any(pool.weight_interval for pool in formula.pools)
    assert law.simplex is not None
    runs = three.scan(DatasetRef.parse(law.ref), "sidecar/runs").collect()
    assert sum(one.runs for one in law.simplex.measured) == runs.height == 18, "12 pilots, 3 mixtures with 2 seeds"
    assert [mark.name for mark in law.simplex.marks][:3] == ["proposed", "uniform", "proportional"]
    sources = dict(zip(law.simplex.sources, law.simplex.marks[2].shares, strict=True))
    assert sources == pytest.approx({"a": 32 / 152, "b": 50 / 152, "c": 70 / 152}), (
        "10 of each, at most a fifth, are held out"
    )
    stored = three.describe(DatasetRef.parse(law.ref)).summary["notes"]["intervals"]
    assert {pool.pool: list(pool.weight_interval or ()) for pool in law.pools} == stored

    web = TestClient(create_app(three.root, allowed_hosts=("testserver",), patience_seconds=None)).get("/mixtures")
    assert web.status_code == 200
    for page in (web.text, html(report_of(three, DatasetRef.parse(law.ref)))):
        seen = Page(page)
        dots = [a for tag, a in seen.tags if tag == "circle" and a.get("class") == "proxy" and "fill-opacity" in a]
        assert len(dots) == len(law.simplex.measured) + 5, "and five in the legend"
        assert sum(a.get("class") == "bounds" for tag, a in seen.tags if tag == "path") == 3, "one whisker a source"
        assert page.count('<figure class="simplex">') == 1
        for low, high in stored.values():
            assert f"{100 * low:.1f} to {100 * high:.1f} %" in seen.text
        assert "Proposed: a " in seen.text


def test_runs_that_cannot_be_read_are_named_and_the_rest_of_the_report_stands(tmp_path: Path) -> None:
    store = mixed(tmp_path, "abc")
    ref = next(DatasetRef.parse(one.ref) for one in mixtures(store).mixtures if one.method == "log-linear")
    (part,) = store.paths(ref, "sidecar/runs")
    part.chmod(0o600)
    part.write_bytes(b"PAR1 not a table PAR1")
    report = report_of(Store.open(store.root), ref)
    assert report.triangles == ()
    assert [one.place for one in report.page.damage] == [str(ref)]
    assert "Part of this version cannot be read" in html(report)
    assert len(report.page.mixture) == 3


def test_two_sources_have_no_triangle(tmp_path: Path) -> None:
    made = {one.method: one for one in mixtures(mixed(tmp_path, "ab")).mixtures}
    assert made["log-linear"].simplex is None
    assert all(pool.weight_interval for pool in made["log-linear"].pools)
