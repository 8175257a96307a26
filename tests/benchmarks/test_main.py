"""Which benchmarks run, and which arguments reach them."""

from pathlib import Path

import pytest

from benchmarks.__main__ import GROUPS, main, names, planned, shared_folder


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
        "browse", "capacity", "decontaminate", "llm", "minhash", "novelty", "semantic_dedup",
    }  # fmt: skip
    assert planned([]) == [(name, []) for name in names()]


def test_a_group_stands_for_its_members_and_is_no_benchmarks_name():
    assert planned(["train", "--quick"]) == planned([*GROUPS["train"], "--quick"])
    assert planned(["clean", "trace"]) == planned([*GROUPS["clean"], "trace"])
    assert {name for members in GROUPS.values() for name in members} <= set(names())
    assert not set(GROUPS) & set(names())


def test_a_folder_of_data_is_shared_by_several_and_left_to_a_single_one(tmp_path: Path):
    single, several, all_of_them = (
        ["minhash", "--data", "here"],
        ["clean", "--data", str(tmp_path)],
        ["--data", str(tmp_path)],
    )
    assert shared_folder(single) is None
    assert single == ["minhash", "--data", "here"]
    assert shared_folder(several) == str(tmp_path)
    assert several == ["clean"]
    assert shared_folder(all_of_them) == str(tmp_path)
    assert all_of_them == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mutlistage"], "no benchmark mutlistage; there are"),
        (["multistage", "40"], "no benchmark 40; what goes to multistage begins with its options"),
        (["llm", "trace", "--rows", "40"], "--rows 40 would go to several benchmarks; name one alone"),
        (["--rows", "40"], "--rows 40 would go to several benchmarks"),
        (["clean", "--data", "nowhere-at-all"], "--data nowhere-at-all is not a folder"),
        (["clean", "--data"], "--data needs a folder"),
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
