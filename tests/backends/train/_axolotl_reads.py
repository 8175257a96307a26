"""Run by the Python of axolotl's own environment: its schema and its tokenizing on a config of ours; JSON on stdout."""

import json
import sys
from pathlib import Path

import yaml
from axolotl.prompt_strategies.chat_template import load
from axolotl.prompt_strategies.dpo import load as load_pairs
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig
from transformers import AutoTokenizer

config = yaml.safe_load(Path(sys.argv[1]).read_text("utf-8"))
fields = AxolotlInputConfig.model_fields
unknown = sorted(set(config) - set(fields) - {field.alias for field in fields.values()})
checked = DictDefault(AxolotlInputConfig(**config).model_dump(exclude_none=True))
(dataset,) = config["datasets"]
tokenizer = AutoTokenizer.from_pretrained(config["base_model"])
row = json.loads(Path(dataset["path"]).read_text("utf-8").splitlines()[0])
if config.get("rl") == "dpo":
    transform = load_pairs(dataset["type"], checked, dataset_idx=0)
    found = (transform[0] if isinstance(transform, tuple) else transform)(row, tokenizer=tokenizer)
else:
    made = load(tokenizer, checked, ds_cfg=dataset).tokenize_prompt(row)
    learned = [token for token in made["labels"] if token != -100]
    found = {"text": tokenizer.decode(made["input_ids"]), "learned": tokenizer.decode(learned)}
print(json.dumps({"unknown": unknown, **found}))
