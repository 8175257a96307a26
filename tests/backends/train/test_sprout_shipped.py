"""The model that ships: its size and precision, its chat template, its recipe, its figures, and that it works."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from backends.train.pretrain import PretrainConfig, load_recipe
from backends.train.sprout_card import write_card
from backends.train.sprout_data import chat_parts
from backends.train.sprout_eval import COMPARE_FORM, REFLECT_FORM
from backends.train.sprout_judgements import compare_reply, reflect_reply
from backends.train.sprout_scoring import Scorer
from methods.asking import prompts

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[3]
SPROUT = ROOT / "models" / "sprout"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def sprout() -> Scorer:
    return Scorer(SPROUT)


def read(name: str) -> Any:
    return json.loads((SPROUT / name).read_text("utf-8"))


def test_all_files_together_are_under_16_mib_and_hold_no_checkpoint() -> None:
    files = [path for path in SPROUT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 16 * 2**20
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md", ".py"}
    assert not (SPROUT / "checkpoint").exists()


def test_every_weight_is_half_precision_and_finite_and_the_embeddings_are_tied() -> None:
    with safe_open(str(SPROUT / "model.safetensors"), "np") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    assert {str(w.dtype) for w in weights.values()} == {"float16"}
    assert all(np.isfinite(w).all() for w in weights.values())
    assert "lm_head.weight" not in weights
    assert sum(w.size for w in weights.values()) == read("training.json")["report"]["parameters"]


def test_the_recipe_in_the_repository_is_the_one_it_was_trained_by() -> None:
    training = read("training.json")
    assert PretrainConfig.model_validate(training["config"]) == load_recipe(ROOT / "recipes" / "sprout.yaml")
    assert training["report"]["finished"]
    assert training["report"]["steps"] == training["config"]["steps"]


def test_the_card_says_what_the_measurement_found(tmp_path: Path) -> None:
    for path in SPROUT.iterdir():
        if path.is_file() and path.suffix != ".py":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert write_card(tmp_path).read_text("utf-8") == (SPROUT / "README.md").read_text("utf-8")
    card = (SPROUT / "README.md").read_text("utf-8")
    for shape, found in read("eval.json")["held_out_loss"].items():
        assert f"| {shape} | {found['nats_per_token']:.3f} " in card


def test_the_chat_template_writes_what_was_trained_and_marks_the_assistants_text(sprout: Scorer) -> None:
    talk = [
        {"role": "user", "content": "Name a fruit."},
        {"role": "assistant", "content": "An apple."},
        {"role": "user", "content": "Another one."},
        {"role": "assistant", "content": "A pear."},
    ]
    written = sprout.tokenizer.apply_chat_template(talk, tokenize=False)
    trained = chat_parts([turn["content"] for turn in talk])
    assert written == "".join(part.text for part in trained) + "\n"

    marked = sprout.tokenizer.apply_chat_template(
        talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids = [i for i, m in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if m]
    assert sprout.tokenizer.decode(ids) == "An apple.<|im_end|>A pear.<|im_end|>"

    asked = sprout.tokenizer.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True)
    assert asked == CHAT.format("Name a fruit.")


@pytest.mark.parametrize("text", ["Hello, world!", "naïve 東京 🙂\n\ttab", "1234567", "  two  spaces "])
def test_any_text_is_encoded_and_decoded_as_it_was(sprout: Scorer, text: str) -> None:
    assert sprout.tokenizer.decode(sprout.tokenizer(text)["input_ids"]) == text


def test_it_finds_english_likelier_than_the_same_words_in_disorder(sprout: Scorer) -> None:
    pairs = [
        ("Write a sentence about a dog.", "The dog is a very good friend to the family."),
        ("What do people eat?", "People eat bread, fruit and vegetables every day."),
        ("Describe the weather.", "It was a cold day and the sky was very dark."),
    ]
    rng = np.random.default_rng(0)
    for question, answer in pairs:
        words = answer.split()
        disorder = [" ".join(words[i] for i in rng.permutation(len(words))) for _ in range(5)]
        chances = sprout.choose([CHAT.format(question)], [f"{text}<|im_end|>" for text in (answer, *disorder)])[0]
        assert chances.argmax() == 0, (answer, chances)


def test_each_stage_gets_a_reply_it_can_read(sprout: Scorer) -> None:
    series = sprout.write(
        prompts.task_series(["Write a poem about the sea.", "Name three kinds of fruit.", "Sort the list."]),
        max_tokens=60,
    )
    assert re.search(r"[A-Za-z]{3}", series.split("\n")[0]), series

    asked = prompts.classification_question("Sort the list.", [("Classify the word.", True), ("Write a poem.", False)])
    assert sprout.write(asked, max_tokens=3).strip() in ("Yes", "No")

    judged = sprout.write(CHAT.format(prompts.reflect("What is 2 and 2?", "It is 4.")), max_tokens=40)
    assert REFLECT_FORM.fullmatch(judged.strip()), judged
    compared = sprout.write(CHAT.format(prompts.compare("Name a color.", "Red.", "Go away.")), max_tokens=40)
    assert COMPARE_FORM.fullmatch(compared.strip()), compared


def test_the_replies_it_was_taught_hold_nearly_all_the_probability(sprout: Scorer) -> None:
    prompt = CHAT.format(prompts.reflect("Name a color.", "Red is a color."))
    replies = [reflect_reply("A"), reflect_reply("B"), reflect_reply("B", 1), reflect_reply("C")]
    scored = sprout.score([(prompt, f"{reply}<|im_end|>") for reply in replies])
    assert sum(np.exp(s.sum_logprob) for s in scored) > 0.9
    prompt = CHAT.format(prompts.compare("Name a color.", "Red is a color.", "Shut up."))
    replies = [
        compare_reply("A"),
        compare_reply("A", 1),
        compare_reply("B"),
        compare_reply("B", 1),
        compare_reply("tie"),
    ]
    scored = sprout.score([(prompt, f"{reply}<|im_end|>") for reply in replies])
    assert sum(np.exp(s.sum_logprob) for s in scored) > 0.9


def test_sampling_is_repeatable_for_a_seed_and_differs_between_seeds(sprout: Scorer) -> None:
    prompt = CHAT.format("Write a short story about a boat.")
    first, again, other = (sprout.write(prompt, max_tokens=40, rng_seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
