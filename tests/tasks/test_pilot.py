"""A pilot's interval holds the truth, its calls are paid once, and it says when it has not seen everything."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from backends.llm.openai import OpenAI
from backends.protocols import Request, Sampling
from cli.main import app
from methods.asking.sampling import sample
from schemas.lineage import DatasetRef
from schemas.method import Expected, FilterMethod, Generated, GenerateMethod, Using, silent
from schemas.recipe import BackendChoices
from schemas.sources import SourceSpec
from storage.store import Store
from tasks.bench import Bench, using
from tasks.extrapolate import Kind, poisson_interval, scaled_up, student_quantile, until_target
from tasks.ingest import ingest
from tasks.materialise import step_of
from tasks.pilot import Pilot, pilot_of
from tests.fakes.openai_server import FakeServer, Faults

ROWS = 400


class AskTwice(FilterMethod):
    """Asks about every row, and once more about those whose first answer ends in an even digit: about half."""

    method: Literal["ask-twice"] = "ask-twice"
    needs: ClassVar[frozenset[str]] = frozenset({"llm"})

    def expected_calls(self, rows: int, words: float) -> Expected:
        return Expected(2 * rows, 200 * rows)

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        texts = [turns[0]["content"] for turns in pool["messages"].to_list()]
        first = sample(using.llm, [Request.ask(f"Is this good? {text}") for text in texts])
        again = [text for text, reply in zip(texts, first, strict=True) if int(reply.text[-1], 16) % 2 == 0]
        sample(using.llm, [Request.ask(f"Really? {text}", Sampling(max_tokens=99)) for text in again])
        return pl.DataFrame()


class UntilEnough(GenerateMethod):
    """Asks until enough answers begin with a digit: ten of sixteen do."""

    method: Literal["until-enough"] = "until-enough"
    needs: ClassVar[frozenset[str]] = frozenset({"llm"})
    examples: int = 200

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        done = 0
        begin = int(rng.integers(2**31))
        for number in range(begin, begin + 50 * self.examples, 5):
            replies = sample(using.llm, [Request.ask(f"task {n}") for n in range(number, number + 5)])
            done += sum(reply.text.split()[1][0].isdigit() for reply in replies)
            using.progress(min(done, self.examples), self.examples)
            if done >= self.examples:
                break
        return Generated(pl.DataFrame(), pl.DataFrame())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, DatasetRef, FakeServer]]:
    """A pool of 400 rows of very different lengths, and a server whose replies differ as much."""
    folder = tmp_path_factory.mktemp("pilot")
    chance = np.random.default_rng(0)
    rows = [
        {"instruction": f"row {i} " + "word " * int(chance.lognormal(3.0, 0.8)), "output": "yes"} for i in range(ROWS)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with FakeServer(Faults(latency=(0.0, 0.001), reply_tokens=(60.0, 0.7))) as server:
        llm = OpenAI(model="fake", base_url=server.url, prices={"fake": {"input": 2.0, "output": 10.0}})
        bench = Bench(store=folder / "store", backends=BackendChoices(llm=llm))
        ref = ingest("rows", SourceSpec(path=str(folder / "rows.jsonl"), license="MIT"), bench)
        yield bench, ref, server


def piloted(bench: Bench, ref: DatasetRef, method: Any, calls: int) -> Pilot:
    role = "seeds" if method.stage == "generate" else "pool"
    found = pilot_of(step_of(method.stage, method, [(role, ref)], bench), method, bench, calls, {})
    assert found is not None
    return found


def truth(bench: Bench, ref: DatasetRef, method: Any) -> tuple[int, int, float]:
    """Calls, tokens and USD of the whole step, run for real."""
    tools, llms = using(bench, method, method.stage, silent)
    rng = bench.rng(step_of(method.stage, method, [("pool", ref)], bench).method)
    rows = Store.open(bench.store).pool(ref)
    if method.stage == "generate":
        method.generate(rows, using=tools, rng=rng)
    else:
        method.judge(rows, using=tools, rng=rng)
    calls = llms[0].taken()
    return calls.height, int(calls["prompt_tokens"].sum() + calls["completion_tokens"].sum()), calls["cost_usd"].sum()


def test_the_interval_holds_the_truth_in_at_least_nine_of_ten_pilots(
    world: tuple[Bench, DatasetRef, FakeServer],
) -> None:
    """150 pilots of 24 calls over different rows of one pool: two kinds of call, costs that differ tenfold."""
    bench, ref, _ = world
    calls, tokens, usd = truth(bench, ref, AskTwice())
    assert ROWS * 1.3 < calls < ROWS * 1.7
    held = {"calls": 0, "tokens": 0, "usd": 0}
    widths: list[float] = []
    for seed in range(150):
        found = piloted(bench.model_copy(update={"rng_seed": seed}), ref, AskTwice(), 24)
        for name, true in (("calls", calls), ("tokens", tokens), ("usd", usd)):
            one = getattr(found, name)
            held[name] += one.low <= true <= (one.high or float("inf"))
        if found.tokens and found.tokens.high:
            widths.append((found.tokens.high - found.tokens.low) / tokens)
    assert min(held.values()) >= 135, held
    assert len(widths) >= 145
    assert np.median(widths) < 2.0, "an interval that holds everything says nothing"


def test_a_pilot_is_paid_once_and_the_run_pays_only_the_rest(
    world: tuple[Bench, DatasetRef, FakeServer], tmp_path: Path
) -> None:
    bench, _, server = world
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"instruction": f"new {i}", "output": "a"}) + "\n" for i in range(40))
    )
    fresh = bench.model_copy(update={"store": tmp_path / "store"})
    ref = ingest("new", SourceSpec(path=str(tmp_path / "rows.jsonl"), license="MIT"), fresh)
    before = server.counters()["billed"]
    first = piloted(fresh, ref, AskTwice(), 12)
    assert first.paid == first.made == server.counters()["billed"] - before > 0
    again = piloted(fresh, ref, AskTwice(), 12)
    assert (again.made, again.paid) == (first.made, 0)
    assert again.tokens == first.tokens
    calls, _, _ = truth(fresh, ref, AskTwice())
    assert server.counters()["billed"] - before == calls


def test_a_pilot_over_all_rows_is_exact(world: tuple[Bench, DatasetRef, FakeServer]) -> None:
    bench, ref, _ = world
    calls, tokens, usd = truth(bench, ref, AskTwice())
    found = piloted(bench, ref, AskTwice(), 2 * ROWS)
    assert found.complete
    assert found.calls is not None
    assert (found.calls.low, found.calls.estimate, found.calls.high) == (calls, calls, calls)
    assert found.tokens is not None
    assert found.tokens.high == found.tokens.low == pytest.approx(tokens)
    assert found.usd is not None
    assert found.usd.estimate == pytest.approx(usd)


def test_a_pilot_that_saw_too_little_says_so(world: tuple[Bench, DatasetRef, FakeServer]) -> None:
    """Two rows cost up to four calls; three is not enough where both are asked twice."""
    bench, ref, _ = world
    seen = [piloted(bench.model_copy(update={"rng_seed": seed}), ref, AskTwice(), 2) for seed in range(20)]
    cut = [found for found in seen if not found.complete]
    assert cut
    assert all(found.made == 2 and "--pilot" in found.note for found in cut)


def test_a_step_that_writes_until_it_has_enough_is_told_by_what_was_accepted(
    world: tuple[Bench, DatasetRef, FakeServer],
) -> None:
    bench, ref, _ = world
    held = 0
    for seed in range(20):
        there = bench.model_copy(update={"rng_seed": seed})
        found = piloted(there, ref, UntilEnough(examples=40), 20)
        assert not found.complete
        assert found.calls is not None
        calls, _, _ = truth(there, ref, UntilEnough(examples=40))
        held += found.calls.low <= calls <= (found.calls.high or float("inf"))
    assert held >= 18


def test_the_plan_shows_what_the_pilot_found(world: tuple[Bench, DatasetRef, FakeServer], tmp_path: Path) -> None:
    _, _, server = world
    rows = [{"instruction": f"thing {i}", "output": f"It is {i}."} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: piloted\n"
        f"sources: {{rows: {{path: {tmp_path / 'rows.jsonl'}, license: MIT}}}}\n"
        "filter: {method: clear}\n"
        f"backends: {{llm: {{backend: openai, model: fake, base_url: '{server.url}', "
        "prices: {fake: {input: 1, output: 2}}}, embed: {backend: hashing}}\n"
    )

    def told(*words: str) -> Any:
        done = CliRunner().invoke(app, ["plan", str(recipe), "--store", str(tmp_path / "store"), *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    before = server.counters()["requests"]
    plain = json.loads(told("--json"))
    assert server.counters()["requests"] == before, "a plan alone costs nothing"
    step = next(one for one in plain["steps"] if one["stage"] == "filter")
    assert step["pilot"] is None
    assert step["billed"]
    assert step["usd"] == [0.0, pytest.approx(step["tokens"][1] * 2 / 1e6)]
    shown = told("--pilot", "20")
    assert "95 % interval" in shown
    assert "of 30 rows" in shown
    assert server.counters()["requests"] > before
    figures = json.loads(told("--pilot", "20", "--json"))
    pilot = next(one for one in figures["steps"] if one["stage"] == "filter")["pilot"]
    assert pilot["paid"] == 0, "the second pilot is the first one's calls"
    assert 0 < pilot["made"] <= 20


def kinds(values: Sequence[float]) -> list[Kind]:
    return [Kind(len(values), len(values), {str(i): [1.0, v, v] for i, v in enumerate(values)})]


def test_a_total_by_hand() -> None:
    """Four rows of 40 cost 10, 12, 14, 16: mean 13, s 2.58; 40 x (13 ± 3.18 x 2.58 / 2 x sqrt(.9)) = 520 ± 156."""
    found = scaled_up(kinds([10, 12, 14, 16]), 1, 4, 40)
    assert found.estimate == 520
    assert found.low == pytest.approx(364.1, abs=0.5)
    assert found.high == pytest.approx(675.9, abs=0.5)


def test_one_observation_bounds_nothing() -> None:
    found = scaled_up(kinds([10]), 1, 1, 40)
    assert (found.estimate, found.high) == (400, None)


def test_students_quantiles_are_the_tables() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 1000: 1.962}
    assert {df: round(student_quantile(0.975, df), 3) for df in table} == pytest.approx(table, abs=0.002)


def test_a_search_that_found_nothing_is_bounded_from_below_only() -> None:
    found = until_target([10.0] * 20, 0, 100)
    assert found.high is None
    assert found.low >= 200


@pytest.mark.parametrize("mean", [1, 3, 8, 30])
def test_the_poisson_interval_holds_its_mean(mean: int) -> None:
    counts = np.random.default_rng(mean).poisson(mean, 4000)
    held = sum(low <= mean <= high for low, high in (poisson_interval(int(count)) for count in counts))
    assert held / 4000 >= 0.945
