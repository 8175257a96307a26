"""The dataset and the config as axolotl, LLaMA-Factory, ms-swift and open-instruct take them; `make test-trainers` asks them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.train._render import render
from backends.train._rows import TrainRows
from backends.train.command import Command
from schemas.errors import UsageError
from tests.backends.train._open_instruct_fields import DPO, FINETUNE, TEMPLATES, TOKENIZER

ASKED = {"role": "user", "content": "Which?"}
ANSWERED = {"role": "assistant", "content": "This."}
LONG = [{"role": "system", "content": "Be brief."}, ASKED, ANSWERED, {"role": "user", "content": "Sure?"}, ANSWERED]
CALL = {"function": {"name": "look", "arguments": '{"at": "sky"}'}}
CALLED = [
    ASKED,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "blue"},
    {"role": "tool", "content": "gray"},
    ANSWERED,
]


def rows_with(*conversations: list[dict[str, Any]], worse: str | None = None, tools: Any = None) -> TrainRows:
    count = len(conversations)
    other = [{"role": "assistant", "content": worse}] if worse else None
    return TrainRows(
        [f"{i:02x}" for i in range(count)], list(conversations), [tools] * count, [other] * count, ["a"] * count, [None] * count
    )  # fmt: skip


def rendered(
    folder: Path, style: str, rows: TrainRows | None = None, **fields: Any
) -> tuple[dict[str, Any], Any, Path]:
    """Config, first row and folder."""
    worse = "No idea" if fields.get("method") == "dpo" else None
    training = Command(command=("x",), style=style, **{"model": "org/m@rev", **fields})  # type: ignore[arg-type]
    made = render(
        training,
        style,
        rows or rows_with([ASKED, ANSWERED], worse=worse),
        folder=folder,
        output=folder / "out",
        rng_seed=9,
        micro_batch=training.micro_batch,
        settings=training.settings,
    )
    return yaml.safe_load(made.config.read_text()), json.loads(made.data.read_text().splitlines()[0]), folder


STYLES = ["axolotl", "llama-factory", "ms-swift", "open-instruct"]


@pytest.mark.parametrize("style", STYLES)
def test_the_pinned_revision_the_seed_and_the_batch_reach_every_trainer(tmp_path, style):
    settings, _, _ = rendered(tmp_path, style, batch_examples=12, micro_batch=4)
    assert "rev" in (settings.get("model_revision"), settings.get("revision_of_model"))
    assert settings["seed"] == 9
    at_once = settings.get("micro_batch_size") or settings["per_device_train_batch_size"]
    assert (at_once, settings["gradient_accumulation_steps"]) == (4, 3)


@pytest.mark.parametrize("style", STYLES)
def test_settings_are_further_keys_and_win(tmp_path, style):
    settings, _, _ = rendered(tmp_path, style, settings={"deepspeed": "ds.json", "weight_decay": 0.5})
    assert (settings["deepspeed"], settings["weight_decay"]) == ("ds.json", 0.5)
    plain = Command(command=("x",))
    assert Command(command=("x",), settings={"a": 1}).identity() != plain.identity()
    assert Command(command=("x",), micro_batch=1).identity() == plain.identity(), "how much at once decides no weight"


def test_axolotl_gets_its_chat_template_dataset_cut_not_dropped(tmp_path):
    settings, row, _ = rendered(tmp_path, "axolotl", adapter="dora", order="sequential", max_length=512)
    (dataset,) = settings["datasets"]
    assert (dataset["type"], dataset["path"]) == ("chat_template", str(tmp_path / "train.jsonl"))
    assert (dataset["roles_to_train"], dataset["chat_template"]) == (["assistant"], "tokenizer_default")
    assert row == {"messages": [ASKED, ANSWERED]}
    assert (settings["base_model"], settings["sequence_len"]) == ("org/m", 512)
    assert settings["excess_length_strategy"] == "truncate"
    assert (settings["adapter"], settings["peft_use_dora"], settings["lora_target_linear"]) == ("lora", True, True)
    assert (settings["curriculum_sampling"], settings["shuffle_merged_datasets"]) == (True, False)


def test_axolotl_learns_only_the_last_turn_where_each_message_says_so(tmp_path):
    settings, row, _ = rendered(tmp_path, "axolotl", rows_with(LONG), loss_on="last-turn")
    assert [message["train"] for message in row["messages"]] == [False, False, False, False, True]
    assert settings["datasets"][0]["message_field_training"] == "train"


def test_axolotl_packs_a_curriculum_in_its_order(tmp_path):
    settings, _, _ = rendered(tmp_path, "axolotl", packing="wrapped", order="sequential")
    assert (settings["sample_packing"], settings["sample_packing_sequentially"]) == (True, True)


def test_axolotl_gets_preference_pairs_and_a_template_file(tmp_path):
    settings, row, _ = rendered(tmp_path, "axolotl", method="dpo", chat_template="mine.jinja")
    assert (settings["rl"], settings["datasets"][0]["type"]) == ("dpo", "chat_template.default")
    assert row == {"messages": [ASKED], "chosen": ANSWERED, "rejected": {"role": "assistant", "content": "No idea"}}
    assert settings["chat_template_jinja"] == str(Path("mine.jinja").resolve())


def test_llama_factory_gets_a_dataset_info_that_names_only_columns_that_are_there(tmp_path):
    settings, row, folder = rendered(tmp_path, "llama-factory", method="dpo", max_steps=7)
    entry = json.loads((folder / "dataset_info.json").read_text())[settings["dataset"]]
    assert (settings["dataset_dir"], entry["file_name"], entry["ranking"]) == (str(tmp_path), "train.jsonl", True)
    assert set(entry["columns"].values()) == row.keys() == {"messages", "chosen", "rejected"}
    assert row["messages"][0][entry["tags"]["role_tag"]] == entry["tags"]["user_tag"]
    assert (settings["stage"], settings["max_steps"], settings["lora_target"]) == ("dpo", 7, "all")
    assert "template" not in settings, "it reads the one of the tokenizer"
    assert not {"train_on_prompt", "mask_history", "neat_packing"} & settings.keys(), "it takes these for sft only"


def test_llama_factory_gets_calls_and_results_in_its_roles(tmp_path):
    _, row, folder = rendered(tmp_path, "llama-factory", rows_with(CALLED, tools=[{"name": "look"}]))
    assert [turn["role"] for turn in row["messages"]] == ["user", "function_call", "observation", "assistant"]
    assert json.loads(row["messages"][1]["content"]) == [{"name": "look", "arguments": {"at": "sky"}}]
    assert row["messages"][2]["content"] == "blue\n</tool_response>\n<tool_response>\ngray"
    assert json.loads(row["tools"]) == [{"name": "look"}]
    assert json.loads((folder / "dataset_info.json").read_text())["provender"]["columns"]["tools"] == "tools"


def test_llama_factory_is_not_given_what_it_would_skip_without_a_word(tmp_path):
    with pytest.raises(UsageError, match=r"would leave out 1 examples, whose turns do not alternate .* the first 01"):
        rendered(tmp_path, "llama-factory", rows_with([ASKED, ANSWERED], [ASKED, ASKED, ANSWERED]))
    thinking = [ASKED, {**ANSWERED, "reasoning_content": "hm"}]
    with pytest.raises(UsageError, match="the reasoning kept beside their answers"):
        rendered(tmp_path, "llama-factory", rows_with(thinking))


def test_llama_factory_packs_without_neighbors_and_sizes_oft_by_blocks(tmp_path):
    settings, _, _ = rendered(tmp_path, "llama-factory", packing="bfd", adapter={"kind": "oft", "rank": 16})
    assert (settings["packing"], settings["neat_packing"]) == (True, True)
    assert (settings["finetuning_type"], settings["oft_rank"], settings["oft_block_size"]) == ("oft", 0, 16)
    assert "lora_rank" not in settings


def test_ms_swift_gets_messages_with_a_rejected_response_and_no_shuffling_for_a_curriculum(tmp_path):
    settings, row, _ = rendered(tmp_path, "ms-swift", method="dpo", order="sequential")
    assert row == {"messages": [ASKED, ANSWERED], "rejected_response": "No idea"}
    assert (settings["dataset_shuffle"], settings["train_dataloader_shuffle"]) == (False, False)
    assert (settings["rlhf_type"], settings["tuner_type"], settings["data_seed"]) == ("dpo", "lora", 9)
    assert "loss_scale" not in settings, "a pair is compared on its last answer, its default"


def test_ms_swift_stops_at_a_row_instead_of_leaving_it_out(tmp_path):
    settings, _, _ = rendered(tmp_path, "ms-swift", packing="wrapped", order="sequential", loss_on="last-turn")
    assert (settings["strict"], settings["packing_strategy"], settings["loss_scale"]) == (
        True,
        "sequential",
        "last_round",
    )
    with pytest.raises(UsageError, match="whose two answers are the same"):
        rendered(tmp_path, "ms-swift", rows_with([ASKED, ANSWERED], worse="This."), method="dpo")


def test_open_instruct_calls_the_same_thing_differently_in_its_two_programs(tmp_path):
    sft, row, _ = rendered(tmp_path, "open-instruct", loss_on="last-turn")
    assert row == {"messages": [ASKED, ANSWERED]}
    assert sft["dataset_mixer_list"] == [str(tmp_path / "train.jsonl"), "1.0"]
    assert sft["dataset_transform_fn"][0] == "last_turn_tulu_tokenize_and_truncate_v1"
    assert (sft["num_train_epochs"], sft["clip_grad_norm"]) == (1, 1.0)
    dpo, row, _ = rendered(tmp_path, "open-instruct", method="dpo")
    assert row["chosen"][0] == row["rejected"][0] == ASKED
    assert (dpo["mixer_list"], dpo["num_epochs"], dpo["max_grad_norm"]) == (sft["dataset_mixer_list"], 1, 1.0)
    assert (dpo["beta"], dpo["loss_type"]) == (0.1, "dpo")
    for settings in (sft, dpo):
        assert settings["chat_template_name"] == settings["tokenizer_name_or_path"] == "org/m"
        assert settings["chat_template_name"] not in TEMPLATES  # else it would train on a template of its own
        assert settings["do_not_randomize_output_dir"] is True
        assert settings["push_to_hub"] is settings["try_launch_beaker_eval_jobs"] is False


@pytest.mark.parametrize("adapter", ["full", "lora", "qlora"])
@pytest.mark.parametrize(("method", "known"), [("sft", FINETUNE), ("dpo", DPO)], ids=["sft", "dpo"])
def test_open_instruct_knows_every_key_that_is_written_for_it(tmp_path, method, known, adapter):
    settings, _, _ = rendered(tmp_path, "open-instruct", method=method, adapter=adapter, max_steps=5)
    assert set(settings) <= known | TOKENIZER
    assert not known & TOKENIZER  # each key has one reader


@pytest.mark.parametrize(
    ("style", "fields", "why"),
    [
        ("axolotl", {"adapter": "hra"}, "axolotl cannot train the adapter 'hra'"),
        ("axolotl", {"adapter": {"kind": "lora", "options": {"bias": "all"}}}, "adapter.options are fields of PEFT's"),
        ("llama-factory", {"packing": "wrapped", "order": "sequential"}, "breaks a curriculum"),
        ("llama-factory", {"adapter": "pissa", "method": "dpo"}, "cannot start from PiSSA in dpo"),
        ("llama-factory", {"chat_template": "mine.jinja"}, "takes chat templates by name"),
        ("ms-swift", {"chat_template": "mine.jinja"}, "takes chat templates by name"),
        ("open-instruct", {"order": "sequential"}, "open-instruct shuffles"),
        ("open-instruct", {"loss_on": "all"}, "learns answers only"),
        ("open-instruct", {"epochs": 1.5}, "counts whole epochs, not 1.5"),
        ("open-instruct", {"chat_template": "chatml"}, "chat templates of its own names"),
        ("open-instruct", {"adapter": {"kind": "lora", "targets": ["q_proj"]}}, "chooses the adapter's modules itself"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_a_trainer_is_not_asked_for_what_it_does_not_have(tmp_path, style, fields, why):
    with pytest.raises(UsageError, match=why):
        rendered(tmp_path, style, **fields)
