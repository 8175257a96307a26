"""Heuristics: ordinary answers pass, broken ones are named with what was found."""

import json

import numpy as np
import polars as pl
import pytest

from methods.filter._repetition import repetition_of
from methods.filter.heuristics import Heuristics
from schemas.examples import turns
from tests.methods._pools import NOTHING, pool_of, reasons, rng

CODE = "```python\n" + "def add(a, b):\n    return a + b\n" * 12 + "```"
BULLETS = "\n".join(f"- item number {i} of the list" for i in range(12))
PROSE = (
    "The river rises in the hills above the town and runs for sixty miles to the sea. On its way it passes three mills, "
    "two of which still grind corn for the bakers of the valley."
)


def judged(*conversations, worse=None, **fields) -> tuple[list, list]:
    pool = pool_of(*conversations, worse=worse)
    said = Heuristics(**fields).judge(pool, using=NOTHING, rng=rng())
    evidence = [None if e is None else json.loads(e) for e in said["evidence"]]
    return reasons(said, pool), evidence


@pytest.mark.parametrize(
    "answer",
    [
        "The answer is 42.",
        "42",
        "No",
        "🙂",
        CODE,
        "def f(x):\n    return {x: 1}",
        BULLETS,
        "1. Wash the rice.\n2. Boil the water\n3. Add salt and",
        PROSE,
        PROSE + " {x}",
        "[[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "Roses are red\nViolets are blue\nSugar is sweet\nAnd so are you",
        "مرحبا بالعالم",
        "床前明月光，疑是地上霜。举头望明月，低头思故乡",
        "Dear Sir or Madam,\nI write to ask about the post.\nYours faithfully\nAnna",
        "As an aid to memory, write it down.",
    ],
    ids=["sentence", "number", "word", "emoji", "code", "one-line-code", "bullets", "numbered", "prose", "braces",
         "matrix", "table", "verse", "arabic", "chinese", "letter", "aid"],
)  # fmt: skip
def test_ordinary_answers_pass(answer: str):
    assert judged(("What is it?", answer))[0] == [None]


@pytest.mark.parametrize(
    ("conversation", "reason", "found"),
    [
        (("Say it", " \u200b\n"), "empty-answer", {"characters": 3}),
        (("\u200b ", "Yes"), "empty-prompt", {"characters": 2}),
        (("Hi", "a\x00b"), "control-characters", {"character": "U+0000", "at": 5}),
        (("Hi", "caf\ufffd"), "control-characters", {"character": "U+FFFD", "at": 7}),
        (("Hi", "abc\u202egnp.exe"), "hidden-characters", {"character": "U+202E", "at": 7}),
        (("Hi\U000e0041", "yes"), "hidden-characters", {"character": "U+E0041", "at": 2}),
        (("Hi", "Sure.<|im_end|>"), "template-leftover", {"found": "<|im_end|>", "at": 9, "around": "Hi\n\nSure.<|im_end|>"}),
        (("List\n<noinput>", "a, b"), "placeholder", {"found": "<noinput>", "at": 5, "around": "List\n<noinput>\n\na, b"}),
        (("Write", "Lorem ipsum dolor"), "lorem-ipsum", {"found": "lorem ipsum", "at": 0, "around": "Lorem ipsum dolor"}),
        (("Where?", "https://example.org/a"), "url-only", {"found": "https://example.org/a"}),
        (
            ("What is the  capital of France?", "what is the capital of france? Paris."),
            "prompt-echo",
            {"found": "What is the  capital of France?", "whole": False},
        ),
        (("Hi", "As an AI language model, I cannot."), "boilerplate-opener", {"found": "As an AI language model, I cannot."}),
        (("Hi", "I’m sorry, but as an AI I can’t."), "boilerplate-opener", {"found": "I’m sorry, but as an AI I can’t."}),
        (
            ("Tell", "Well then. " + "very good " * 12),
            "ngram-loop",
            {"found": ("very good " * 12).strip(), "at": [11, 130], "times": 12},
        ),
        (("Tell", PROSE + " It then"), None, None),
        (("Tell", PROSE[:-1].replace("bakers of the valley", "bakers of the")), "truncated-ending",
         {"found": PROSE[:-1].replace("bakers of the valley", "bakers of the")[-80:], "open_fence": False}),
        (("Code", "Here:\n```python\nprint(1)"), "truncated-ending", {"found": "Here:\n```python\nprint(1)", "open_fence": True}),
        ([("user", "Hi"), ("assistant", "Hello"), ("user", "?")], "bad-turn-order", {"roles": "uau"}),
        ([("assistant", "Hello")], "bad-turn-order", {"roles": "a", "also": ["empty-prompt"]}),
        ([("user", "a"), ("user", "b"), ("assistant", "c")], "bad-turn-order", {"roles": "uua"}),
        ([("user", "a"), ("robot", "b"), ("assistant", "c")], "bad-turn-order", {"roles": "u?a"}),
        ([("user", "a"), ("assistant", " "), ("user", "b"), ("assistant", "c")], "empty-turn", {"characters": 2}),
    ],
)  # fmt: skip
def test_a_broken_example_is_named_with_what_was_found(conversation, reason: str | None, found: dict | None):
    why, evidence = judged(conversation)
    assert why == [reason]
    assert evidence == [found]


def test_system_turns_tools_and_many_turns_are_in_order():
    assert judged(
        [("system", "Be kind"), ("user", "Hi"), ("assistant", "Hello")],
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        [("user", "a"), ("assistant", "look"), ("tool", "1"), ("tool", "2"), ("assistant", "d")],
    )[0] == [None, None, None]


def test_a_turn_that_calls_a_tool_is_not_empty():
    pool = pool_of(("Weather?", ""))
    called = turns(("user", "Weather?"), ("assistant", ""))
    called[1]["extra"] = '{"tool_calls":[{"name":"weather"}]}'
    pool = pool.with_columns(pl.Series("messages", [called], dtype=pool.schema["messages"]))
    assert reasons(Heuristics().judge(pool, using=NOTHING, rng=rng()), pool) == [None]


def test_filler_text_that_was_asked_for_passes():
    assert judged(("Write some lorem ipsum", "Lorem ipsum dolor sit amet."))[0] == [None]


def test_a_flag_made_of_tag_characters_hides_nothing():
    wales = "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"
    assert judged(("Flag of Wales?", wales))[0] == [None]


def test_a_preference_example_with_two_equal_answers_is_dropped():
    worse = [turns(("assistant", "Yes. ")), turns(("assistant", "No."))]
    assert judged(("a", "yes."), ("b", "yes."), worse=worse)[0] == ["same-as-worse", None]


def test_lengths_are_judged_only_when_asked():
    rows = [("one two", "a"), ("one two three four", "a b c d e")]
    assert judged(*rows)[0] == [None, None]
    assert judged(*rows, min_prompt_words=3)[0] == ["prompt-too-short", None]
    assert judged(*rows, max_answer_words=4)[0] == [None, "answer-too-long"]
    assert judged(*rows, min_answer_words=2)[0] == ["answer-too-short", None]
    assert judged(*rows, max_prompt_words=3)[0] == [None, "prompt-too-long"]


def test_a_skipped_rule_is_not_among_the_rules_and_rejects_nothing():
    assert judged(("Hi", ""), skip=("empty-answer", "empty-turn"))[0] == [None]
    names = [rule.name for rule in Heuristics(skip=("empty-answer",)).rules()]
    assert "empty-answer" not in names
    assert "answer-too-long" not in names
    everything = tuple(rule.name for rule in Heuristics().rules())
    assert judged(("", ""), skip=everything)[0] == [None]


def test_repeated_ngrams_need_fifty_words_and_name_the_share():
    # 12 sentences of 6 words, each twice over: 72 words have 68 5-grams, of which 6 are distinct (by rotation)
    answer = "the cat sat on the mat. " * 12
    pool = pool_of(("Tell", answer), ("Tell", "the cat sat on the mat. " * 7))
    said = Heuristics(skip=("ngram-loop",)).judge(pool, using=NOTHING, rng=rng())
    assert said["reason"].to_list() == ["repeated-ngrams", None]
    assert said["score"][0] == pytest.approx(62 / 68)


def test_a_loop_of_letters_is_one_where_there_are_no_words_to_count():
    said, evidence = judged(
        ("Say it", "a" * 1000), ("Say it", "0" * 300), ("Say it", "ha" * 100), ("Say it", "x" + " " * 300 + "y"),
        ("Say it", "\U0001f44d\U0001f3fd" * 120), ("Say it", "e" + "\u0301" * 250),
        ("Say it", "a" * 199), ("Say it", PROSE * 2 + "\n" + "=" * 210),
        ("Say it", "".join(f"{i:x}" for i in range(200))), ("Say it", "\u5e8a\u524d\u660e" * 20),
    )  # fmt: skip
    assert said == ["ngram-loop"] * 6 + [None] * 3 + ["ngram-loop"], "the last one by its words, one a character"
    assert evidence[0] == {"found": "a" * 200, "at": [0, 1000], "times": 1000}
    assert evidence[2]["times"] == 100
    assert evidence[3] == {"found": " " * 200, "at": [1, 301], "times": 300}


def test_code_points_that_are_no_characters_are_found():
    assert judged(("Say it", "one \ufffe two"), ("Say it", "one \ufdd0"))[0] == ["control-characters"] * 2


def test_repetition_counts_are_those_of_a_plain_loop():
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(list("abc"), generator.integers(0, 60))) for _ in range(60)] + ["", "é " * 9]
    found = repetition_of(pl.Series(texts))
    for i, text in enumerate(texts):
        words = text.split()
        grams = [tuple(words[j : j + 5]) for j in range(len(words) - 4)]
        share = (len(grams) - len(set(grams))) / len(grams) if grams else 0
        assert found.duplicate_fraction[i] == pytest.approx(share)
        longest = 0
        for size in range(1, 9):
            run = 0
            for j in range(size, len(words)):
                run = run + 1 if words[j] == words[j - size] else 0
                if run and run + size >= 3 * size:
                    longest = max(longest, run + size)
        assert found.loop_fraction[i] == pytest.approx(longest / len(words) if words else 0)


def test_a_megabyte_answer_is_judged_in_reasonable_time():
    assert judged(("Hi", "a" * 1_000_000), ("Hi", "- " * 500_000), ("Hi", "```" * 300_001))[0] == [
        "ngram-loop",
        "ngram-loop",
        "ngram-loop",
    ]
