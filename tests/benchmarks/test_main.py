"""Which benchmarks run, and which arguments reach them."""

import pytest

from benchmarks.__main__ import main, names, planned


def test_after_one_name_every_argument_is_its_own():
    assert planned(["multistage", "--rows", "40", "--seeds", "1"]) == [("multistage", ["--rows", "40", "--seeds", "1"])]
    assert planned(["planted_pool", "--only", "less", "rds-plus"]) == [("planted_pool", ["--only", "less", "rds-plus"])]
    assert planned(["ingest", "--help"]) == [("ingest", ["--help"])]
    assert planned(["--quick", "llm"]) == planned(["llm", "--quick"]) == [("llm", ["--quick"])]


def test_quick_reaches_every_one_that_has_a_quick_form_and_no_other():
    assert planned(["--quick", "llm", "trace"]) == [("llm", ["--quick"]), ("trace", [])]
    everything = planned(["--quick"])
    assert everything is not None
    assert [name for name, _ in everything] == names()
    assert {name for name, given in everything if given} == {
        "capacity", "decontaminate", "llm", "minhash", "novelty", "semantic_dedup",
    }  # fmt: skip
    assert planned([]) == [(name, []) for name in names()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mutlistage"], "no benchmark mutlistage; there are"),
        (["multistage", "40"], "no benchmark 40; what goes to multistage begins with its options"),
        (["llm", "trace", "--rows", "40"], "--rows 40 would go to several benchmarks; name one alone"),
        (["--rows", "40"], "--rows 40 would go to several benchmarks"),
        (["sandbox", "--rows", "40"], "sandbox takes no arguments"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_runs(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_help_names_every_benchmark_with_what_it_asks(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in names())
    assert "Does a filter that works while a model trains save training?" in told
