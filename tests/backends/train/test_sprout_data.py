"""What sprout is trained on: the held-out split, the shapes, and that each completion is what the methods parse."""

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.train.sprout_data import SHAPES, Document, Shapes, chat_parts
from backends.train.sprout_eval import COMPARE_FORM, REFLECT_FORM, auroc, wilson
from backends.train.sprout_items import Corpus, Item, Task, chunks_of, is_held_out, read_corpora
from backends.train.sprout_judgements import damage, draw_reflection, judgeable
from backends.train.sprout_overlap import benchmark_overlap
from methods.asking import prompts

PERMISSIVE = "instructions/permissive_instructions_1100.parquet"


def rows(n: int) -> list[dict[str, str]]:
    return [{"instruction": f"Name the color of thing {k}.", "input": "", "output": f"Color {k}."} for k in range(n)]


def split_of(folder: Path, table: list[dict[str, str]]) -> tuple[set[str], set[str]]:
    (folder / PERMISSIVE).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(table).write_parquet(folder / PERMISSIVE)
    found = read_corpora(folder, [(PERMISSIVE, "", 0.1)], check=lambda path, sha256: None)
    train, held_out = ({item.phrasings[0] for item in side.items} for side in (found.train, found.held_out))
    return train, held_out


def test_the_held_out_split_does_not_depend_on_order_or_on_the_other_rows(tmp_path: Path) -> None:
    table = rows(400)
    train, held_out = split_of(tmp_path, table)
    assert not train & held_out
    assert 20 <= len(held_out) <= 60, "a tenth of 400, by hash"

    random.Random(1).shuffle(table)
    assert split_of(tmp_path, table) == (train, held_out)
    half = {row["instruction"] for row in table[:200]}
    assert split_of(tmp_path, table[:200]) == (train & half, held_out & half)


@given(st.text(max_size=40), st.text(max_size=40), st.floats(0.01, 0.99))
def test_an_item_is_on_one_side_whatever_its_spacing_and_grows_with_the_share(a: str, b: str, share: float) -> None:
    assert is_held_out(f" {a}  ", b, fraction=share) == is_held_out(a, f"\n{b}", fraction=share)
    if is_held_out(a, b, fraction=share / 2):
        assert is_held_out(a, b, fraction=share)


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.integers(0, 2**32))
def test_a_damaged_answer_is_never_the_answer_and_never_blank(answer: str, rng_seed: int) -> None:
    damaged = damage(answer, np.random.default_rng(rng_seed))
    assert damaged != answer
    assert damaged.strip()


def test_chunks_keep_whole_lines_in_order() -> None:
    lines = [f"Line {k} of a text that goes on and on." for k in range(30)]
    chunks = chunks_of("\n".join(lines), limit=200)
    assert "\n".join(chunks).split("\n") == lines
    assert all(len(chunk) <= 240 for chunk in chunks)


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    items = [Item("permissive", (f"What is {k} and {k}?",), "", f"It is {2 * k}, of course it is.") for k in range(12)]
    tasks = [
        *(Task("permissive", f"Add {k} and {k}.", (("", str(2 * k)),), False) for k in range(12)),
        *(
            Task("seed", f"Double the number, way {k}.", tuple((str(n), str(2 * n)) for n in range(4)), False)
            for k in range(4)
        ),
        *(Task("seed", f"Classify the number, way {k}.", (("1", "odd"), ("2", "even")), True) for k in range(4)),
    ]
    worse = [Item("preference", i.phrasings, "", i.output, "Work it out yourself.") for i in items]
    corpus = Corpus(items, tasks, worse, {"c4": ["A plain text about nothing much, long enough to stand alone."]})
    return Shapes(corpus, {"permissive": 1.0, "seed": 1.0, "c4": 1.0}, question_weight=0.2, judge_weight=4.0)


def drawn(shapes: Shapes, shape: str, n: int = 40) -> list[Document]:
    rng = np.random.default_rng(3)
    return [shapes.draw(shape, rng) for _ in range(n)]  # type: ignore[arg-type]


def reply(document: Document) -> str:
    return document.completion.removesuffix("<|im_end|>").removesuffix("<|endoftext|>")


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_renders_with_an_end_and_the_same_way_for_the_same_rng(shapes: Shapes, shape: str) -> None:
    documents = drawn(shapes, shape)
    assert documents == drawn(shapes, shape)
    for document in documents:
        assert document.shape == shape
        assert document.completion.endswith(("<|im_end|>", "<|endoftext|>"))
        assert reply(document).strip()


def test_a_task_series_goes_on_with_the_numbers_of_its_prompt(shapes: Shapes) -> None:
    for document in drawn(shapes, "task_series"):
        assert prompts.TASKS_HEADER in document.prompt or prompts.CLASSIFICATION_TASKS_HEADER in document.prompt
        shown = document.prompt.removesuffix("<|im_end|>\n<|im_start|>assistant\n")
        begins = int(shown.rsplit("\n", 1)[1].removesuffix("."))
        lines = f"{begins}. {reply(document).strip()}".split("\n")
        assert [int(line.split(".")[0]) for line in lines] == list(range(begins, begins + len(lines)))


def test_the_classification_question_is_the_methods_own_and_answered_by_the_label(shapes: Shapes) -> None:
    for document in drawn(shapes, "classification_question"):
        asked = document.prompt.removesuffix("<|im_end|>\n<|im_start|>assistant\n")
        assert asked.endswith("Is it classification?")
        assert prompts.CLASSIFICATION_QUESTION in asked
        target = asked.rsplit("Task: ", 1)[1]
        assert reply(document).strip() == ("Yes" if target.startswith("Classify") else "No")


def test_instances_are_written_as_the_methods_write_them(shapes: Shapes) -> None:
    for document in drawn(shapes, "input_first"):
        assert prompts.INPUT_FIRST_HEADER in document.prompt
        assert reply(document).startswith(("Output: ", "Example 1\nInput: "))
    for document in drawn(shapes, "output_first"):
        assert prompts.OUTPUT_FIRST_HEADER in document.prompt
        first = reply(document).split("\n")
        assert first[0].removeprefix("Class label: ") in ("odd", "even")
        assert first[1] in ("1", "2")


def test_judgements_have_the_form_that_is_asked_for_and_state_the_planted_truth(shapes: Shapes) -> None:
    for document in drawn(shapes, "reflect", 80):
        found = REFLECT_FORM.fullmatch(reply(document))
        assert found
        assert found[2] == document.right
        assert {"right": "A", "blank": "C"}.get(document.planted, "B") == document.right
    for document in drawn(shapes, "compare", 80):
        found = COMPARE_FORM.fullmatch(reply(document))
        assert found
        assert found[2] == document.right
        a, b = (document.prompt.split(f"Answer {x}: ")[1].split("\n\n")[0] for x in "AB")
        assert (a == b) == (document.right == "tie")
        if document.planted == "rejected":
            assert (a if document.right == "B" else b) == "Work it out yourself."


def test_a_planted_wrong_answer_is_another_one_than_the_right_one(shapes: Shapes) -> None:
    rng = np.random.default_rng(5)
    pools = judgeable(shapes.corpus)
    truth = {item.phrasings[0]: item.output for item in shapes.corpus.items}
    asked_again = 0
    for _ in range(200):
        judged = draw_reflection(pools, {"permissive": 1.0}, rng)
        asked = judged.asked[0].removeprefix("Question: ").split("\n")[0]
        answer = judged.asked[0].split("Proposed answer: ")[1].split(f"\n\n{prompts.REFLECT_QUESTION}")[0]
        assert (answer == truth[asked]) == (judged.right == "A")
        asked_again += judged.asked[-1] == prompts.REFLECT_AGAIN
    assert 40 <= asked_again <= 95, "a third of 200"


def test_only_the_last_reply_of_a_conversation_is_learned() -> None:
    parts = chat_parts(("one", "two", "three", "four"), read=0.2, write=4.0)
    assert "".join(p.text for p in parts) == (
        "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
        "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\nfour<|im_end|>"
    )
    assert [(p.text, p.weight) for p in parts if p.weight >= 1] == [("four<|im_end|>", 4.0)]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(scored: list[tuple[int, bool]]) -> None:
    high = [s for s, is_true in scored if is_true]
    low = [s for s, is_true in scored if not is_true]
    area = auroc(np.array([float(s) for s, _ in scored]), np.array([t for _, t in scored]))
    if not high or not low:
        assert np.isnan(area)
        return
    pairs = [1.0 if h > other else 0.5 if h == other else 0.0 for h in high for other in low]
    assert area == pytest.approx(sum(pairs) / len(pairs))


def test_a_benchmark_item_counts_when_thirteen_words_in_a_row_are_in_the_training_text(tmp_path: Path) -> None:
    words = [f"w{k}" for k in range(20)]
    train = Corpus(items=[Item("permissive", (" ".join(words),), "", "Yes.")])
    rows = [
        {"split": "test", "question": "before " + " ".join(words[3:16]).upper() + ", after"},  # 13 words shared
        {"split": "test", "question": " ".join(words[:12]) + " other words"},  # 12 shared
        {"split": "test", "question": " ".join(words[:5])},  # too short to be checked
        {"split": "train", "question": " ".join(words)},  # not a test item
    ]
    (tmp_path / "benchmarks").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "benchmarks" / "gsm8k.parquet")
    found = benchmark_overlap(train, tmp_path)
    assert list(found) == ["gsm8k"], "only the files that are there"
    assert {k: found["gsm8k"][k] for k in ("items", "long_enough", "sharing")} == {
        "items": 3,
        "long_enough": 2,
        "sharing": 1,
    }


def test_wilsons_interval_of_8_in_10_is_the_textbook_one() -> None:
    assert wilson(8, 10) == (0.4902, 0.9433)
    assert wilson(0, 10)[0] == 0.0
