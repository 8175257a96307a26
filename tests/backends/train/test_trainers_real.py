"""The real axolotl, LLaMA-Factory and ms-swift on what we write for them, each in an environment that goes with the test.

Opt-in (`make test-trainers`): downloads some gigabytes. The last two train sprout for two steps on the CPU. Of open-instruct
there is no package; its config is held to its source by test_foreign_trainers.py alone.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from backends.llm.transformers import Transformers
from backends.train.command import Command
from benchmarks._throwaway import environment
from tests.backends.train._tiny import color_of_fruit, published

pytestmark = [
    pytest.mark.skipif(not os.environ.get("PROVENDER_TEST_TRAINERS"), reason="opt-in: PROVENDER_TEST_TRAINERS=1"),
    pytest.mark.timeout(1800),
]

#: What text needs of each: the whole of their requirements brings audio, video and kernels for GPUs.
PACKAGES = {
    "axolotl": (
        "axolotl==0.19.0",
        "torch transformers==5.16.1 trl==1.9.0 peft==0.20.0 accelerate==1.13.0 datasets==4.8.4 pydantic==2.12.5 "
        "packaging==26.0 addict fire PyYAML requests einops colorama numpy<3 scipy python-dotenv pillow",
    ),
    "llamafactory": (
        "llamafactory==0.9.5",
        "torch transformers==5.6.0 trl==0.24.0 peft==0.18.1 accelerate==1.11.0 datasets==4.0.0 omegaconf pyyaml tyro<0.9 "
        "einops safetensors sentencepiece scipy pandas matplotlib fire torchdata<=0.11.0 protobuf tiktoken av fastapi "
        "uvicorn sse-starlette modelscope",
    ),
    "swift": ("ms-swift==4.6.0", "torch"),
}


@pytest.fixture(scope="module")
def bin_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The programs of a trainer's environment, made on first use; PROVENDER_TRAINERS_FOLDER keeps them."""
    kept = os.environ.get("PROVENDER_TRAINERS_FOLDER")
    root = Path(kept) if kept else tmp_path_factory.mktemp("trainers")

    def made(name: str) -> Path:
        itself, needs = PACKAGES[name]
        whole = name == "swift"
        python = environment(root / name, [itself, *needs.split()] if whole else needs.split())
        if not whole:
            uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
            words = [uv, "pip", "install", "-q", "--python", str(python), "--no-deps", itself]
            subprocess.run(words, check=True)
        if (
            name == "llamafactory"
        ):  # imported with the rest of its plugins, and not loadable beside a CPU build of torch
            (site,) = (root / name).glob("lib/python*/site-packages")
            (site / "torchaudio").mkdir(exist_ok=True)
            (site / "torchaudio" / "__init__.py").write_text('"""No audio here."""\n')
        return python.parent

    return made


def data(folder: Path, method: str) -> Path:
    conversations = color_of_fruit(2)
    worse = [[{"role": "assistant", "content": "I do not know", "extra": None}] for _ in conversations]
    return published(folder / "train.parquet", conversations, worse if method == "dpo" else None)


def trained(folder: Path, method: str, style: str, words: tuple[str, ...], **fields: Any) -> None:
    """Two steps on the CPU; the adapter then answers under our own engine."""
    config = Command(
        command=words, style=style, method=method, max_steps=2, batch_examples=4, max_length=128, precision="fp32",
        timeout_seconds=900, **fields,
    )  # type: ignore[arg-type]  # fmt: skip
    run = config.open().train(data(folder, method), folder / "out", rng_seed=7)
    assert "adapter_model.safetensors" in run.files
    assert [entry["step"] for entry in run.history][-1] <= 2
    assert all(entry["loss"] > 0 for entry in run.history)
    adapted = Transformers(model="sprout", adapter=str(folder / "out"), device="cpu").open()
    assert adapted.identity() != Transformers(model="sprout", device="cpu").open().identity()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, no GPU, no hub."""
    for name, value in {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_llama_factory_trains_on_it(bin_of: Callable[[str], Path], tmp_path: Path, method: str) -> None:
    program = str(bin_of("llamafactory") / "llamafactory-cli")
    trained(tmp_path, method, "llama-factory", (program, "train", "{config}"), settings={"logging_steps": 1})


@pytest.mark.parametrize(("method", "verb"), [("sft", "sft"), ("dpo", "rlhf")])
def test_ms_swift_trains_on_it(bin_of: Callable[[str], Path], tmp_path: Path, method: str, verb: str) -> None:
    program = str(bin_of("swift") / "swift")
    how = {"model_type": "llama", "logging_steps": 1}  # four types share sprout's architecture
    trained(tmp_path, method, "ms-swift", (program, verb, "{config}"), settings=how, chat_template="chatml")


@pytest.mark.parametrize(
    ("fields", "learned"),
    [
        ({}, "red<|im_end|>"),
        ({"loss_on": "last-turn", "packing": "bfd", "adapter": "dora"}, "red<|im_end|>"),
        ({"order": "sequential", "packing": "wrapped", "adapter": "full", "precision": "bf16"}, "red<|im_end|>"),
        ({"loss_on": "all", "adapter": "rslora", "chat_template": "chatml"}, "Color of apple?<|im_end|>red<|im_end|>"),
    ],
    ids=["plain", "last-turn", "curriculum", "all"],
)
def test_axolotl_knows_every_key_and_learns_what_was_asked(
    bin_of: Callable[[str], Path], tmp_path: Path, fields: dict[str, Any], learned: str
) -> None:
    said = read_by_axolotl(bin_of("axolotl"), tmp_path, "sft", fields)
    assert said["unknown"] == []
    assert said["text"].startswith("<|im_start|>user\nColor of apple?")
    assert said["learned"] == learned


def test_axolotl_reads_the_pairs(bin_of: Callable[[str], Path], tmp_path: Path) -> None:
    said = read_by_axolotl(bin_of("axolotl"), tmp_path, "dpo", {})
    assert said["unknown"] == []
    assert said["prompt"].endswith("<|im_start|>assistant\n")
    assert (said["chosen"], said["rejected"]) == ("red<|im_end|>", "I do not know<|im_end|>")


def read_by_axolotl(programs: Path, folder: Path, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What `_axolotl_reads.py` says of the config; it runs as the command, and its answer is the model."""
    reader = Path(__file__).with_name("_axolotl_reads.py")
    keep = (
        "import pathlib, subprocess, sys; pathlib.Path(sys.argv[3], 'said.json').write_bytes(subprocess.check_output("
    )
    keep += "[sys.executable, sys.argv[1], sys.argv[2]]))"
    words = (str(programs / "python"), "-c", keep, str(reader), "{config}", "{output}")
    config = Command(command=words, style="axolotl", method=method, max_length=128, max_steps=2, **fields)  # type: ignore[arg-type]
    config.open().train(data(folder, method), folder / "out", rng_seed=7)
    return json.loads((folder / "out" / "model" / "said.json").read_text().splitlines()[-1])


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install 'provender[qlora]'")
def test_bitsandbytes_fetches_no_kernels_and_prints_nothing() -> None:
    """In a fresh process: by itself it would ask the package `kernels` for code from the hub, and says so on stderr."""
    code = (
        "import sys, types; sys.modules['kernels'] = found = types.ModuleType('kernels')\n"
        "found.get_kernel = lambda *a, **k: sys.exit('fetched')\n"
        "from backends.train._four_bits import load_bitsandbytes; load_bitsandbytes()\n"
        "assert sys.modules['kernels'] is found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
