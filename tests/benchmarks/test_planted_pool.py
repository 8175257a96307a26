"""The planted pool is made up as it says, and what was measured on a draw is found again."""

from pathlib import Path

import pytest

from benchmarks._figures import Figures
from benchmarks.planted_pool import measured, planted, show

TWO_DRAWS = [
    {"shares": [{"in-domain": a, "out-of-domain": 0.0, "corrupted": b}] * 2, "seconds": 1.0}
    for a, b in ((1.0, 0.0), (0.5, 0.5))
]


def test_a_pool_has_a_tenth_inside_the_domain_and_two_tenths_corrupted_and_none_of_the_target() -> None:
    pool, kinds, target = planted(100, 10, 3)
    assert (kinds.count("in-domain"), kinds.count("out-of-domain"), kinds.count("corrupted")) == (10, 70, 20)
    assert target.height == 10
    asked = [{said["messages"][0]["content"] for said in frame.to_dicts()} for frame in (pool, target)]
    assert not asked[0] & asked[1]


def test_another_draw_is_another_pool() -> None:
    assert set(planted(100, 10, 3)[0]["id"]) != set(planted(100, 10, 4)[0]["id"])


def test_shares_are_of_what_was_selected() -> None:
    kinds = {bytes([n]): "in-domain" if n < 2 else "corrupted" for n in range(20)}
    found = measured(lambda budget: [bytes([n]) for n in range(1, 1 + budget)], kinds)
    assert [one["in-domain"] for one in found["shares"]] == [1.0, 0.5]  # of one and of two


def test_a_method_that_refuses_says_why() -> None:
    def pick(budget: int) -> list[bytes]:
        raise ValueError("no target\nand more")

    assert measured(pick, {b"a": "in-domain"}) == {"refused": "no target"}


def test_what_was_measured_is_found_by_the_next_process_but_not_for_other_settings(tmp_path: Path) -> None:
    kept = Figures(tmp_path / "work" / "figures.jsonl")
    kept.put({"method": {"method": "less"}, "draw": 0}, TWO_DRAWS[0])
    kept.put({"method": {"method": "deita"}, "draw": 0}, {"refused": "no judge"})
    again = Figures(tmp_path / "work" / "figures.jsonl")
    assert again.get({"draw": 0, "method": {"method": "less"}}) == TWO_DRAWS[0]
    assert again.get({"draw": 1, "method": {"method": "less"}}) is None
    assert again.get({"draw": 0, "method": {"method": "deita"}}) is None  # what was missing may be there next time


def test_the_table_has_means_and_ranges_over_the_draws(capsys: pytest.CaptureFixture[str]) -> None:
    show({"less": TWO_DRAWS, "deita": [{"refused": "no judge"}]})
    said = capsys.readouterr().out
    assert "| less | .75 (.50 to 1.00) | .25 | .75 (.50 to 1.00) | .25 | 1.0 |" in said
    assert "| deita | does not run here: no judge |" in said
