"""A bake-off's table and picture: what they say of unequal choices, and that names cannot become markup."""

import xml.etree.ElementTree as ET
from typing import Any

from cli.baking import bakeoff_svg, bakeoff_text


def line(name: str, low: float, high: float, examples: int = 12) -> dict[str, Any]:
    middle = (low + high) / 2
    return {
        "contender": name, "loss": 2 + middle, "low": 1.9, "high": 2.1, "seeds": 3, "stability": 0.5, "examples": examples,
        "against_random": {"estimate": middle, "low": low, "high": high}, "choose_seconds": 1.25, "tokens": 7,
    }  # fmt: skip


def summary(*lines: dict[str, Any], keep_examples: int | None = 12) -> dict[str, Any]:
    return {
        "table": list(lines), "baseline": "uniform", "says": "near beats random selection by 0.050 nats per token.",
        "keep_examples": keep_examples, "budget_tokens": None if keep_examples else 900, "target_examples": 60,
    }  # fmt: skip


NEAR, CHANCE, FAR = line("near", -0.09, -0.01), line("uniform", 0.0, 0.0), line("far", -0.02, 0.04)


def test_each_difference_is_better_worse_or_not_shown():
    told = bakeoff_text(summary(NEAR, CHANCE, FAR, line("bad", 0.01, 0.02))).splitlines()
    assert told[0] == "12 examples each, 3 proxies each, 60 target examples"
    rows = {words[0]: " ".join(words) for words in map(str.split, told[3:7])}
    assert "-0.0500 [-0.0900, -0.0100] better" in rows["near"]
    assert rows["uniform"] == "uniform 2.0000 [1.9000, 2.1000] 12 0.50 1.2 7", "chance is not compared with itself"
    assert "+0.0100 [-0.0200, +0.0400] no difference shown" in rows["far"]
    assert "+0.0150 [+0.0100, +0.0200] worse" in rows["bad"]
    assert told[-1] == "near beats random selection by 0.050 nats per token."


def test_who_kept_fewer_than_the_budget_is_not_said_to_have_kept_it():
    told = bakeoff_text(summary(NEAR, CHANCE, line("apart", 0.1, 0.2, examples=2)))
    assert told.startswith("at most 12 examples each, ")
    assert bakeoff_text(summary(NEAR, CHANCE, keep_examples=None)).startswith("at most 900 tokens each, ")


def test_the_picture_has_a_scale_figures_and_no_markup_of_a_name():
    hostile = line("<script>alert(1)</script>", -0.01, 0.02)
    picture = ET.fromstring(bakeoff_svg(summary(NEAR, CHANCE, hostile)))
    assert picture.find(".//{*}script") is None
    texts = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"-0.08", "0", "+0.08"} <= set(texts)
    assert "-0.050 (-0.090 to -0.010)" in texts
    assert "<script>alert(1)</script>" in texts
    assert not any("uniform" in text for text in texts), "chance is the line at 0"


def test_a_picture_of_differences_that_are_all_nothing_still_draws():
    assert ET.fromstring(bakeoff_svg(summary(CHANCE, line("same", 0.0, 0.0)))) is not None
