"""A mixture as text says weights, intervals, repetition and what was measured, and hostile names stay harmless."""

from types import SimpleNamespace

from cli.mixing import bar, measured_text, told

SUMMARY = {
    "weights": {"code": 0.25, "chat\x1b[31m": 0.75},
    "take": {"code": 25, "chat\x1b[31m": 75},
    "available": {"code": 1000, "chat\x1b[31m": 50},
    "notes": {
        "intervals": {"code": [0.2, 0.5], "chat\x1b[31m": [0.5, 0.8]},
        "repetition": {"code": 0.025, "chat\x1b[31m": 1.5},
        "capped": ["chat\x1b[31m"],
        "law": {
            "runs": 64,
            "rank_agreement": 0.97,
            "median_absolute_error": 0.0104,
            "mean_absolute_error": 97.2,
            "spread_of_the_losses": 0.6,
        },
        "predicted": {"proposed": 2.5, "uniform": 2.75},
        "says": "measured loss 2.5 over 3 seeds: better than uniform",
    },
}


def test_a_mixture_is_told_largest_first_with_what_is_known_of_it():
    lines = told(SUMMARY).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["chat\\x1b[31m", "code"]
    assert "20-50" in lines[3]
    assert "1.50" in lines[2]
    assert "capped by max_repeats: chat\\x1b[31m" in lines
    assert lines[4].endswith("off by 0.0104 at the median, 97 on average, in nats (spread 0.600)")
    assert "predicted loss: proposed 2.5000, uniform 2.7500" in lines
    assert lines[-1] == SUMMARY["notes"]["says"]
    assert "\x1b" not in told(SUMMARY)


def test_a_mixture_of_an_older_release_has_the_mean_error_only():
    law = {"runs": 8, "rank_agreement": 0.5, "mean_absolute_error": 0.02, "spread_of_the_losses": 0.6}
    lines = told({**SUMMARY, "notes": {"law": law, "predicted": {"proposed": 2.5}}}).splitlines()
    assert lines[4].endswith("seen 0.50, off by 0.0200 on average, in nats (spread 0.600)")
    nothing = told({**SUMMARY, "notes": {"law": {"runs": 8}, "predicted": {"proposed": 2.5}}}).splitlines()
    assert nothing[4] == "law over 8 runs: rank agreement with runs it had not seen not known"


def test_a_static_mixture_has_no_law_and_no_interval():
    plain = {"weights": {"a": 1.0}, "take": {"a": 3}, "available": {"a": 3}, "notes": {"repetition": {"a": 1.0}}}
    assert len(told(plain).splitlines()) == 3, "head, rule, row"


def test_bars_show_the_interval():
    assert bar(0.25, [0.1, 0.5]) == "█" * 8 + "╌" * 8
    assert bar(0.0) == "▏"


def test_a_version_made_of_a_measured_mixture_says_what_was_measured():
    def step(stage: str, summary: dict[str, object]) -> SimpleNamespace:
        method = SimpleNamespace(method={"method": "quadratic"})
        return SimpleNamespace(ref=SimpleNamespace(stage=stage), summary=summary, step=method)

    plain = {**SUMMARY, "notes": {"repetition": {}}}
    store = SimpleNamespace(upstream=lambda ref: [step("gather", {}), step("mix", SUMMARY), step("mix", plain)])
    assert measured_text(store, "any").strip().splitlines() == [
        "mixture by quadratic, measured:",
        "law over 64 runs: rank agreement with runs it had not seen 0.97, "
        "off by 0.0104 at the median, 97 on average, in nats (spread 0.600)",
        "predicted loss: proposed 2.5000, uniform 2.7500",
        "measured loss 2.5 over 3 seeds: better than uniform",
    ]
    assert measured_text(SimpleNamespace(upstream=lambda ref: [step("gather", {})]), "any") == ""
