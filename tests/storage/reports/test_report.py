"""The report and the models behind it: figures that add up, pictures without script, hostile text that stays text."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from schemas.errors import CorruptStore, StoreUnwritable
from storage.questions.diff import diff
from storage.questions.funnel import conserved
from storage.questions.rows import rows
from storage.questions.show import show
from storage.questions.trace import trace
from storage.questions.words import amount, number, share, usd
from storage.reports.report import html, report_of, write_report
from tests.seeded import Seeded, seeded

HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}]]>"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


class Tags(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_every_step_of_the_funnel_conserves_its_rows(world: Seeded) -> None:
    page = show(world.store, "support-bot@v1")
    assert page.damage == ()
    assert all(conserved(row) for row in page.funnel if row.step.stage not in ("rank", "publish"))
    by = {row.step.method: row for row in page.funnel}
    assert (by["heuristics"].rows_in, by["heuristics"].rejected, by["heuristics"].rows_out) == (48, 5, 43)
    assert (by["self-instruct"].created, by["self-instruct"].refused) == (10, 3)
    assert by["self-instruct"].refusals == (("too-similar", 2), ("unparsed", 1))
    assert (by["temperature"].repeats, by["temperature"].rows_out) == (3, 27)
    assert page.headline.startswith("27 examples from dolly and synthetic; 56 were read or written, 26 rows left")


def test_histograms_count_every_scored_row_once(world: Seeded) -> None:
    page = show(world.store, "support-bot@v2")
    clear = next(one for one in page.histograms if one.method == "clear")
    assert (sum(clear.kept), sum(clear.dropped), clear.missing) == (30, 13, 0)
    assert clear.rules == (("low-confidence", 0.42, "keep-above"),)
    ranking = [one for one in page.histograms if one.stage == "rank"]
    assert [one.name for one in ranking] == ["score", "loss"]
    assert not any(one.judged for one in ranking)


def test_an_unknown_cost_is_never_nothing(world: Seeded) -> None:
    money = show(world.store, "support-bot").money
    assert (money.calls, money.unpriced_calls, money.usd) == (5, 1, None)
    assert money.known_usd == pytest.approx(0.008)
    assert usd(money) == "at least $0.0080 (1 call without a price)"
    assert amount(money.model_copy(update={"known_usd": None})) == "unknown"
    assert number(None) == "unknown"
    assert "≥ $0.0080" in html(report_of(world.store, "support-bot"))


def test_contamination_names_benchmarks_without_a_hit_too(world: Seeded) -> None:
    found = {row.benchmark: row for row in show(world.store, "support-bot").contamination}
    assert (found["gsm8k"].hits, found["gsm8k"].dropped, found["gsm8k"].kept) == (3, 2, 1)
    assert found["mmlu"].hits == 0
    assert found["mmlu"].rows_checked == 30


def test_training_figures_keep_their_intervals(world: Seeded) -> None:
    page = show(world.store, "support-bot")
    tuned, scored = page.training
    assert [entry["loss"] for entry in tuned.history] == pytest.approx([2.6, 2.2, 1.8, 1.4])
    (loss,) = scored.metrics
    assert (loss.before, loss.value, loss.low, loss.high, loss.change) == (2.0, 1.5, 1.4, 1.6, -0.5)
    assert (loss.before_low, loss.before_high) == (1.9, 2.2)
    told = html(report_of(world.store, "support-bot"))
    assert "1.9 to 2.2" in told, "below the figure before"
    assert 'class="whisker before"' in told, "and drawn"
    assert scored.model == f"sprout after {world.strict['finetune']}"


def test_the_report_is_one_file_without_script_or_request(world: Seeded, tmp_path: Path) -> None:
    path = write_report(world.store, "support-bot", tmp_path / "deep" / "report.html")
    found = Tags(path.read_text())
    names = {tag for tag, _ in found.found}
    assert {"svg", "table", "style"} <= names
    assert not names & {"script", "iframe", "object", "embed", "form", "link", "img"}
    for tag, attributes in found.found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert not {"src", "href", "style", "xlink:href"} & set(attributes), (tag, attributes)
    assert list(path.parent.iterdir()) == [path]


def test_hostile_text_stays_text_in_every_field(tmp_path: Path) -> None:
    world = seeded(tmp_path / "store", hostile=HOSTILE)
    text = html(report_of(world.store, "support-bot"))
    found = Tags(text)
    assert not {tag for tag, _ in found.found} & {"script", "img"}
    assert sum(tag == "style" for tag, _ in found.found) == 1
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 40
    assert "49" not in text.split("{{7*7}}")[0][-20:]


def test_a_report_that_cannot_be_written_says_where(world: Seeded, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnwritable, match="cannot be written"):
        write_report(world.store, "support-bot", tmp_path / "file" / "report.html")


def test_damage_is_named_and_the_rest_stands(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    (part,) = world.store.paths(world.strict["clear"], "verdicts/pool")
    part.unlink()
    page = show(world.store, world.v2)
    assert page.rows == 27
    assert {one.place for one in page.damage} == {str(world.strict["clear"])}
    assert any(one.method == "ifd" for one in page.histograms)
    assert "Part of this version cannot be read" in html(report_of(world.store, world.v2))


def test_bytes_that_are_no_parquet_are_corruption_with_a_way_out(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    (part,) = world.store.paths(world.strict["clear"], "verdicts/pool")
    part.chmod(0o600)
    part.write_bytes(b"PAR1 not a table PAR1")
    with pytest.raises(CorruptStore, match="run `provender verify`"):
        trace(world.store, world.dolly[0])
    with pytest.raises(CorruptStore, match=f"rows of {world.strict['clear']} cannot be read"):
        rows(world.store, world.strict["clear"], fate="reject")
    with pytest.raises(CorruptStore, match="cannot be read"):
        diff(world.store, world.v1, world.v2)
    assert [one.place for one in show(world.store, world.v2).damage] == [str(world.strict["clear"])]


def test_numbers_lead_to_exactly_their_rows(world: Seeded) -> None:
    page = show(world.store, "support-bot@v2")
    for reason in page.reasons:
        fate = "edit" if reason.rule == "corrected" else "reject"
        found = rows(world.store, reason.ref, fate=fate, rule=reason.rule, limit=100)
        assert found.total == reason.rows == len(found.rows)
        assert all(row.verdict.rule == reason.rule for row in found.rows)
    assert rows(world.store, "support-bot@v2").total == page.rows


def test_rows_are_filtered_and_paged_without_loss(world: Seeded) -> None:
    first = rows(world.store, "support-bot@v2", limit=10)
    seen = [row.id for row in first.rows]
    while first.next is not None:
        first = rows(world.store, "support-bot@v2", limit=10, start=first.next)
        seen += [row.id for row in first.rows]
    assert len(seen) == 27
    wanted = [row.id for row in rows(world.store, "support-bot@v2", text="INVENT question", limit=100).rows]
    assert set(wanted) == {row.id for row in rows(world.store, "support-bot@v2", source="synthetic").rows}
    at, found = 0, []
    while at is not None:
        page = rows(world.store, "support-bot@v2", text="invent", start=at, limit=2)
        found += [row.id for row in page.rows]
        at = page.next
    assert found == wanted
    near = rows(world.store, world.strict["clear"], fate="reject", order="margin")
    margins = [abs(row.verdict.margin) for row in near.rows]
    assert margins == sorted(margins)


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (1, 3, "33%"),
        (1, 2000, "<0.1%"),
        (1999, 2000, ">99.9%"),
        (2000, 2000, "100%"),
        (0, 5, "0.0%"),
        (0, 0, "–"),
        (5, 100, "5.0%"),
    ],
)
def test_shares_never_round_something_to_nothing(part: int, whole: int, told: str) -> None:
    assert share(part, whole) == told


def test_the_page_survives_a_round_through_json(world: Seeded) -> None:
    page = show(world.store, "support-bot")
    assert type(page).model_validate(json.loads(page.model_dump_json())) == page
