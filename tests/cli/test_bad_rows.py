"""Every cleaning verb, typed as a user types it, over rows that have broken such tools: a verdict each, or one clear sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from schemas.errors import EmptyStage
from tests.methods.test_bad_input import STRANGE
from tests.methods.test_unions import METHODS

LLM = "{backend: scripted, default: 'Yes. answer: A', default_logprob: hashed, rules: [{when: Rate, reply: '5'}]}"
#: A tuned model is not scripted: `clear-correct` is tried on the same rows in tests/methods/test_bad_input.py.
CLEANERS = [
    n for n in METHODS if n.split("/")[0] in ("filter", "dedup", "decontaminate") and n != "filter/clear-correct"
]
FIELDS = {
    "filter/clear": ["samples=1"],
    "filter/knowledge": ["prompts=2", "samples=1", "shots=1"],
    "decontaminate/temporal": ["released={tiny: 2024-01-01}", "unknown=keep"],
}
#: What keeps nothing, and says which reason it was: the scripted judge calls insults no insults and answers nothing right.
KEEPS_NONE = {"filter/toxicity": "judge-cannot-tell"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strange answers, strange questions, one row said twenty times; and a pack of items that say next to nothing."""
    made = tmp_path_factory.mktemp("bad")
    texts = [text[:20_000] for text in STRANGE.values()]
    rows = [{"instruction": f"Say something strange, number {i}", "output": text} for i, text in enumerate(texts)]
    rows += [{"instruction": text, "output": "fine"} for text in texts]
    rows += [{"instruction": "What is the capital of France?", "output": "The capital of France is Paris."}] * 20
    items = [("", ""), (" ", "x"), ("the answer is", "is"), ("\u200b", "7"), ("What is this?", "7"), ("fine", "fine")]
    tiny = [{"prompt": prompt, "answer": answer} for prompt, answer in items]
    for name, lines in (("rows", rows), ("tiny", tiny)):
        (made / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return made


@pytest.mark.parametrize("name", CLEANERS)
def test_bad_rows_get_a_verdict_and_a_pack_of_nothing_flags_nothing(name: str, folder: Path) -> None:
    stage, method = name.split("/")
    words = [stage, *(["run"] if stage == "decontaminate" else []), str(folder / "rows.jsonl"), "-m", method]
    words += ["--store", str(folder / "store"), "--without-prefect", "--json", "--embed", "hashing"]
    words += [] if stage == "dedup" else ["--llm", LLM]
    words += ["--against", str(folder / "tiny.jsonl")] if stage == "decontaminate" else []
    said = CliRunner().invoke(app, [*words, *(part for field in FIELDS.get(name, ()) for part in ("--set", field))])
    if name in KEEPS_NONE:
        assert isinstance(said.exception, EmptyStage)
        assert KEEPS_NONE[name] in str(said.exception)
        return
    assert said.exit_code == 0, said.exception
    found: dict[str, Any] = json.loads(said.stdout)
    (pool,) = (one for one in found["counts"]["inputs"] if one["role"] == "pool")
    assert (
        pool["rows"] == pool["kept"] + pool["rejected"] + pool["edited"] + pool["quarantined"] == 2 * len(STRANGE) + 20
    )
    assert pool["kept"] + pool["edited"] == found["counts"]["rows_out"] > 0
    if stage == "decontaminate":
        assert pool["rejected"] == 0, "three words stand everywhere"
    if stage == "dedup":
        assert pool["rejected"] >= 19, "one row said twenty times stays once"
