"""SELF-GUIDE: the published vectors, its filters, the vote, balance, exact targets, conservation, traps fixed and kept."""

import doctest
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.protocols import Reply, Request, TokenLogprobs
from methods.asking import agreement
from methods.asking.parsing import Unparsed
from methods.generate import _guide_filters, self_guide
from methods.generate._guide_filters import (
    agreed,
    char_rouge_l,
    flat_quotas,
    label_in,
    label_match,
    last_label,
    length_bounds,
    noise_in,
    phrases_for,
)
from methods.generate._guide_output import Votes, by_vote
from methods.generate._guide_tasks import GuideTask, tasks_of
from methods.generate._seeds import seeds_of
from methods.generate.self_guide import SelfGuide
from schemas.errors import EmptyStage
from schemas.examples import CREATED, EXAMPLES, REFUSED, turns
from schemas.identity import digest16
from schemas.method import Generated, Using
from tests.methods.llm_doubles import AnswersBy, asked_text, failed

VECTORS = json.loads(Path(__file__).with_name("guide_vectors.json").read_text("utf-8"))["self_guide"]

MOOD = {
    "task": "mood",
    "instruction": "Say whether the sentence is glad or sad.",
    "instances": [{"input": "The sun is out.", "output": "glad"}, {"input": "My dog ran away today.", "output": "sad"}],
    "labels": ["glad", "sad"],
}
TOPIC = {
    "task": "topic",
    "instruction": "Name the topic of the fact.",
    "instances": [
        {"input": "Fact: rain is wet.", "output": "rain"},
        {"input": "Fact: fire burns.", "output": "fire ash"},
    ],
}


def seed_rows(*tasks) -> pl.DataFrame:
    rows = []
    for task in tasks:
        first = task["instances"][0]
        asked = f"{task['instruction']}\n\n{first['input']}"
        rows.append(
            {
                "id": digest16(json.dumps(task).encode()),
                "messages": turns(("user", asked), ("assistant", first["output"])),
                "source": "seeds",
                "extra": json.dumps(task),
                "synthetic_depth": 0,
            }
        )
    return pl.DataFrame(rows, schema_overrides=dict(EXAMPLES))


def number_of(request: Request) -> int:
    return int.from_bytes(digest16(repr((asked_text(request), request.sampling.seed)).encode())[:4])


def teacher(request: Request) -> str:
    """Writes a sentence for each request for an input; annotates "good" words as glad, mostly."""
    text = asked_text(request)
    if text.startswith("Write one new input"):
        word = "good" if "<label>glad</label>" in text else "bad"
        return f" A {word} thing, number {number_of(request) % 100_000}.\n"
    if request.sampling.index == 3:
        return "I cannot say."
    if "<task>\nName the topic" in request.messages[0].content:
        return f"topic {text.split()[-1][:1]}"
    return "Glad." if "good" in text else "It is sad"


def run(llm, *tasks, rng_seed=0, **fields) -> Generated:
    method = SelfGuide(**{"examples": 8, "input_lengths": "off", "output_lengths": "off", **fields})
    return method.generate(seed_rows(*(tasks or (MOOD,))), using=Using(llm), rng=np.random.default_rng(rng_seed))


def labels_of(made: Generated) -> Counter[str]:
    return Counter(messages[-1]["content"] for messages in made.examples["messages"].to_list())


def evidence(frame: pl.DataFrame) -> list[dict]:
    return [json.loads(text) for text in frame["evidence"]]


def test_the_published_length_bounds():
    for name in ("length_bounds", "length_bounds_negative"):
        vector = VECTORS[name]
        bounds = length_bounds(["x" * n for n in vector["lens"]])
        assert (bounds.low, bounds.high) == (vector["min"], vector["max"])
    bounds = length_bounds(["x" * n for n in (20, 30, 40)])
    assert [bounds.holds("x" * n) for n in (12, 13, 45, 46)] == [False, True, True, False]


def test_lengths_without_a_spread_set_no_bound_unless_official():
    assert length_bounds(["abc", "xyz"]) is None
    official = length_bounds(["abc", "xyz"], official=True)
    assert not official.holds("abc"), "3 <= 3 < 3 holds for nothing: the published filter then empties the set"


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda v: "-".join(v["in"]) or "none")
def test_the_published_votes(vector):
    vote = agreed(vector["in"], vector["min_freq"])
    assert (vote.winner if vote else None) == vector["out"]


def test_one_sample_of_three_is_a_third_of_them_but_no_agreement():
    assert agreed(["a", "b", "c"], 0.3).winner == "a"
    assert agreed(["a", "b", "c"], 0.3, min_votes=2) is None
    assert agreed(["a", "b", "a"], 0.3, min_votes=2).winner == "a"


def test_the_published_metrics():
    for text, labels, expected in VECTORS["last_label"]:
        assert last_label(text, labels) == expected
    vector = VECTORS["exact_match_score"]
    labels = list(dict.fromkeys(vector["gt"]))
    hits = [label_match(said, wanted, labels) for said, wanted in zip(vector["pred"], vector["gt"], strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(vector["score"])
    for ours, theirs, expected in VECTORS["char_rouge_l"]:
        assert char_rouge_l(ours, theirs) == pytest.approx(expected)


def test_a_label_is_read_as_whole_words_the_longest_first():
    assert label_in("12", ["1", "12"]) == "12", "the published code maps it to 1"
    assert label_in("Neutral.", ["entails", "neutral"]) == "neutral"
    assert label_in("neutrally", ["entails", "neutral"]) == Unparsed("no-label")
    assert label_in("neutral, not entails", ["entails", "neutral"]) == Unparsed("several-labels")
    assert label_in("so it is not sad, not sad at all", ["sad", "not sad"]) == "not sad"
    assert label_in("yes", ["Yes", "yes"]) == "yes"


def test_noise_is_what_the_task_s_own_examples_do_not_contain():
    assert noise_in("the output is 3", _guide_filters.TELLTALES) == "output"
    assert phrases_for(["an input device", "x"], ("input", "output")) == ("output",)
    phrases = _guide_filters.TELLTALES
    assert phrases_for(["x"], phrases) == phrases_for(["x"], phrases) == phrases, "the published list grows by calls"


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 20)), st.integers(1, 30))
def test_quotas_are_flat_and_never_more_than_there_is(found, total):
    counts = Counter({label: found.get(label, 0) for label in "abc"})
    quotas = flat_quotas(counts, "abc", total)
    assert sum(quotas.values()) <= total
    assert max(quotas.values()) - min(quotas.values()) <= 1
    assert all(quotas[label] <= counts[label] for label in "abc")
    if min(counts.values()) >= -(-total // 3):
        assert sum(quotas.values()) == total


def vote(texts, task=None, **how) -> tuple[str | None, str | None]:
    task = task or GuideTask("mood", "Mood?", (), ("glad", "sad"), ())
    settings = {"min_frequency": 0.3, "min_votes": 2, "bounds": None, "noise": ("Sure",), "official": False, **how}
    found = by_vote(task, [t if isinstance(t, Reply) else Reply(text=t) for t in texts], Votes(**settings))
    return found.output, found.reason


def test_labels_agree_whatever_words_stand_around_them():
    assert vote(["Glad.", "it is glad", "sad", ""]) == ("glad", None)
    assert vote(["Glad.", "Glad.", "sad"], official=True, min_votes=1) == (None, "no-label")
    assert vote(["glad", "glad", "it is sad"], official=True, min_votes=1) == ("glad", None)


def test_an_output_without_agreement_says_what_became_of_the_samples():
    assert vote(["glad", "sad"]) == (None, "no-agreement")
    assert vote(["", "  "]) == (None, "empty")
    assert vote(["what?", "why?", ""]) == (None, "no-label")
    assert vote([failed("timeout"), failed("timeout")]) == (None, "call-timeout")
    assert vote([Reply(text="glad", finish_reason="length")] * 3) == (None, "cut-off")
    free = GuideTask("t", "T?", (), (), ())
    assert vote(["Sure, rain", "Sure, sun", "Sure, fog"], free) == (None, "output-noise")
    assert vote(["rain", "rain", "Sure, rain", "fire"], free) == ("rain", None)


def test_exactly_the_wanted_number_and_as_many_of_each_label():
    made = run(AnswersBy(teacher), examples=9)
    assert labels_of(made) == {"glad": 5, "sad": 4}
    assert made.examples.schema == pl.Schema(dict(CREATED))
    assert made.refused.schema == pl.Schema(dict(REFUSED))
    (asked, _), *_ = made.examples["messages"].to_list()
    assert asked["content"].startswith("Say whether the sentence is glad or sad.\n\nA ")


def test_each_task_gets_its_own_number_and_knows_its_seed():
    made = run(AnswersBy(teacher), MOOD, TOPIC, examples=6)
    tasks = [found["task"] for found in evidence(made.examples)]
    assert Counter(tasks) == {"mood": 6, "topic": 6}
    ids = dict(zip(["mood", "topic"], seed_rows(MOOD, TOPIC)["id"], strict=True))
    assert all(parents == [ids[task]] for parents, task in zip(made.examples["parents"].to_list(), tasks, strict=True))


def test_a_task_beside_others_gets_the_rows_it_gets_alone():
    alone, beside = run(AnswersBy(teacher), TOPIC), run(AnswersBy(teacher), MOOD, TOPIC)
    assert beside.examples.tail(8)["messages"].equals(alone.examples["messages"], check_names=False)


@pytest.mark.parametrize("fields", [{}, {"balance": False}, {"compat": "official"}, {"samples": 3, "min_votes": 3}])
def test_every_candidate_is_a_row_or_has_a_reason(fields):
    def noisy(request: Request) -> str | Reply:
        chance = number_of(request) % 7
        if asked_text(request).startswith("Write one new input") and chance < 3:
            return ["", "Sure, here is one", failed("server-error")][chance]
        return teacher(request)

    made = run(AnswersBy(noisy), MOOD, TOPIC, examples=10, max_candidates=60, **fields)
    for name, notes in made.notes["tasks"].items():
        assert notes["candidates"] == notes["accepted"] + sum(notes["refused"].values()), name
    assert made.refused.height == sum(made.notes["refused"].values())
    assert {"empty", "input-noise", "call-server-error"} <= set(made.notes["refused"])


def test_the_candidate_budget_binds_and_an_imbalance_stays_flat():
    one_sided = AnswersBy(lambda r: teacher(r) if asked_text(r).startswith("Write") else "glad")
    made = run(one_sided, max_candidates=30)
    notes = made.notes["tasks"]["mood"]
    assert (notes["candidates"], notes["accepted"], notes["stopped"]) == (30, 0, "candidate-budget")
    assert notes["refused"]["beyond-label-balance"] == notes["labels"]["glad"]
    assert run(one_sided, balance=False).examples.height == 8


def test_repeated_inputs_are_found_whatever_stands_around_them_unless_official():
    def same(request: Request) -> str:
        text = asked_text(request)
        if text.startswith("Write"):
            return "A good thing." + " " * (number_of(request) % 50)
        return teacher(request)

    made = run(AnswersBy(same), balance=False, max_candidates=40)
    assert made.examples.height == 1
    official = run(AnswersBy(same), balance=False, max_candidates=40, compat="official", labels_by="vote", examples=2)
    assert official.notes["refused"].get("repeated-input", 0) < made.notes["refused"]["repeated-input"]


def test_inputs_of_unusual_length_are_dropped_with_the_bounds():
    made = run(AnswersBy(teacher), input_lengths="on", max_candidates=20)
    first = evidence(made.refused.filter(pl.col("reason") == "input-length"))[0]
    assert (first["at_least"], first["below"]) == (11, 25), "lengths 15 and 22: mean 18.5, spread 3.5"
    assert not first["at_least"] <= first["length"] < first["below"]


def test_prompts_show_people_s_inputs_as_good_and_earlier_ones_as_less_good():
    model = AnswersBy(teacher)
    run(model, examples=30, prompts_per_round=5)
    asked = [text for text in map(asked_text, model.asked) if text.startswith("Write one new input")]
    assert "\nN/A\n" in asked[0]
    assert all(text in asked[0] for text in ("The sun is out.", "My dog ran away today."))
    later = asked[-1].split("Inputs of lower quality")[1]
    assert 1 <= later.count("<input>") <= 10
    labels = Counter("glad" if "<label>glad</label>" in text else "sad" for text in asked)
    assert min(labels.values()) > 0, "the label is drawn for each prompt"


def test_a_prompt_over_its_limit_shows_fewer_inputs_and_an_impossible_one_says_so():
    model = AnswersBy(teacher)
    run(model, prompt_words=100, examples=30)
    assert max(len(asked_text(request).split()) for request in model.asked) <= 100
    with pytest.raises(
        EmptyStage, match="no example of 'mood' makes a prompt of 40 words or fewer; raise prompt_words"
    ):
        run(model, prompt_words=40)


def test_a_seed_example_too_long_for_a_prompt_is_refused_and_the_rest_goes_on():
    long = {"input": "Fact: " + "rain " * 300 + "is wet.", "output": "rain"}
    both = {**TOPIC, "instances": [long, *TOPIC["instances"][1:]]}
    none = {**TOPIC, "task": "endless", "instruction": "Name the endless topic.", "instances": [long]}
    model = AnswersBy(teacher)
    made = run(model, MOOD, both, none, prompt_words=200, examples=4)
    refused = made.refused.filter(pl.col("reason") == "seed-example-too-long")
    assert [json.loads(text)["task"] for text in refused["evidence"]] == ["topic", "endless"]
    assert refused["calls"].list.len().to_list() == [0, 0]
    assert refused["parents"].list.len().min() > 0
    assert not any("rain rain" in asked_text(request) for request in model.asked)
    assert {name: (note["accepted"], note["stopped"]) for name, note in made.notes["tasks"].items()} == {
        "mood": (4, "target"),
        "topic": (4, "target"),
        "endless": (0, "seed-examples-too-long"),
    }
    assert made.notes["refused"]["seed-example-too-long"] == 2


def test_the_annotation_is_a_conversation_of_worked_examples():
    model = AnswersBy(teacher)
    run(model)
    request = next(r for r in model.asked if len(r.messages) > 1)
    assert [turn.role for turn in request.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert request.messages[2].content == "glad"
    drawn = Counter((r.messages[-1].content, r.sampling.seed) for r in model.asked if len(r.messages) > 1)
    assert set(drawn.values()) == {10}, "ten samples, told apart by their index"


def test_a_base_model_goes_on_from_numbered_examples():
    model = AnswersBy(lambda r: f" thing {number_of(r)}" if asked_text(r).endswith("Input:") else "glad")
    made = run(model, ask_as="continuation", balance=False)
    first = asked_text(model.asked[0])
    assert first.startswith("Task: Say whether the sentence is glad or sad.\nExample 1\nOutput: ")
    assert first.endswith("\nInput:")
    annotated = next(asked_text(r) for r in model.asked if asked_text(r).endswith("Output:"))
    assert "Example 1\nInput: The sun is out.\nOutput: glad\n" in annotated
    assert made.examples.height == 8


def test_the_likeliest_label_is_corrected_for_how_much_the_model_likes_it():
    """By itself "sad" is likelier by 3 nats; after a good thing "glad" gains 2, after a bad one "sad" gains 1."""

    def score(request):
        text = request.messages[-1].content
        gain = {"glad": 2.0 * ("good" in text), "sad": 1.0 * ("bad" in text)}[request.completion]
        return TokenLogprobs(({"glad": -5.0, "sad": -2.0}[request.completion] + gain,))

    made = run(AnswersBy(teacher, score), labels_by="likelihood", examples=4)
    assert labels_of(made) == {"glad": 2, "sad": 2}
    glad = next(found for found in evidence(made.examples) if found["logprobs"]["glad"] > 0)
    assert glad["logprobs"] == {"glad": 2.0, "sad": 0.0}
    assert glad["margin"] == pytest.approx((1 - np.exp(-2.0)) / (1 + np.exp(-2.0)), abs=1e-4)
    plain = run(AnswersBy(teacher, score), labels_by="likelihood", calibrated=False, balance=False)
    assert labels_of(plain) == {"sad": 8}
    picky = run(AnswersBy(teacher, score), labels_by="likelihood", min_margin=0.6, max_candidates=20)
    assert picky.notes["refused"]["unsure"] > 0, "after a bad thing the margin is 0.46"


def test_rows_may_carry_worked_examples_before_them():
    made = run(AnswersBy(teacher), shots=1)
    roles = [turn["role"] for turn in made.examples["messages"][0]]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


def test_tags_that_a_chat_model_repeats_are_not_part_of_the_input():
    assert self_guide.bare(" <input>\nTwo.\n</input> ") == "Two."
    assert self_guide.bare("a <input>x</input>") == "a <input>x</input>"


def test_seeds_of_one_instruction_are_one_task():
    plain = [{"instruction": "Add.", "instances": [{"input": str(n), "output": str(n + 1)}]} for n in range(3)]
    (task,) = tasks_of(seeds_of(seed_rows(*plain)))
    assert (len(task.gold), len(task.parents), task.labels) == (3, 3, ())
    (asked,) = tasks_of(seeds_of(seed_rows(*plain)), kind="classification")
    assert asked.labels == ("1", "2", "3")


def test_without_a_task_it_says_what_to_do():
    with pytest.raises(EmptyStage, match="no task among 0 seed examples"):
        SelfGuide().generate(seed_rows(MOOD).head(0), using=Using(AnswersBy(teacher)), rng=np.random.default_rng(0))


@pytest.mark.parametrize("module", [_guide_filters, self_guide, agreement], ids=lambda m: m.__name__)
def test_examples_in_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0
