"""lm-evaluation-harness as a subprocess: benchmarks that others publish, on a model folder with or without an adapter."""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from backends.base import BackendConfig, speed
from backends.weights import resolve
from schemas.errors import BackendError, MissingExtra, UsageError
from schemas.identity import digest16

PROGRAM = Path(__file__).with_name("_harness_program.py")

_BAR = re.compile(r"(Running \w+ requests).*?(\d+)/(\d+)")
_FILE = (".yaml", ".yml")


class Harness(BackendConfig):
    """Benchmarks of lm-evaluation-harness (extra ``eval``), measured on the trained model and on the untuned one.

    A task is a name or group of the harness, or the path of a task file of your own; a task file may name Python
    functions, which are run: use files that you trust. Nothing is fetched unless ``download`` says so, and tasks that
    run generated code are refused: that is what ``pass@k`` and its sandbox are for.
    """

    tasks: tuple[str, ...] = Field(min_length=1, description="names or groups of the harness's tasks, or task files")
    limit: int | None = Field(default=None, gt=0, description="the first so many examples of each task; by default all")
    num_fewshot: int | None = Field(default=None, ge=0, description="examples shown; by default what each task says")
    chat_template: bool = Field(default=True, description="put each prompt into the model's chat template")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="precision of the computation"
    )
    before: bool = Field(default=True, description="whether the untuned model is measured too")
    batch_size: int = speed(default=8, ge=1, description="rows in one batch")
    device: str | None = speed(default=None, description="cpu, cuda, cuda:1, mps; by default a GPU if there is one")
    environment: Path | None = speed(
        default=None, description="folder of a virtual environment that holds lm-eval; by default this one"
    )
    download: bool = speed(default=False, description="allow fetching the tasks' datasets and the model")

    def identity(self) -> dict[str, Any]:
        """The harness's version, each task by name or by the digest of its file and of what that names, the settings.

        ``MissingExtra`` without lm-eval, ``UsageError`` for a task file that is not there.
        """
        tasks = [{"file": Path(t).name, "digest": _digest(Path(t))} if t.endswith(_FILE) else t for t in self.tasks]
        return {**super().identity(), "tasks": tasks, "lm_eval": installed(self.environment)}

    def open(self) -> "HarnessRun":
        """Ready to run; ``MissingExtra`` without lm-eval."""
        installed(self.environment)
        return HarnessRun(self)


@dataclass(frozen=True)
class Weights:
    """A model to measure: what `resolve` understands, and the folder of an adapter beside it."""

    name: str
    model: str
    adapter: Path | None = None


def installed(environment: Path | None) -> str:
    """Version of lm-eval here or in another virtual environment; ``MissingExtra`` names the command that brings it."""
    if environment is None:
        if importlib.util.find_spec("lm_eval") is not None:
            return importlib.metadata.version("lm-eval")
        raise MissingExtra(
            "`evaluate: harness` needs lm-evaluation-harness: pip install 'provender[eval]', "
            "or name a virtual environment that has it in `environment`"
        )
    found = sorted(environment.glob("lib/python*/site-packages/lm_eval-*.dist-info"))
    if not found or not (environment / "bin" / "python").exists():
        raise MissingExtra(
            f"there is no lm-eval in the environment {environment}; make one with "
            f"`python -m venv {environment} && {environment}/bin/pip install lm-eval[hf] peft`"
        )
    return found[-1].name.removeprefix("lm_eval-").removesuffix(".dist-info")


class HarnessRun:
    """One start of the harness for all models of a list, so that its imports are paid once."""

    def __init__(self, config: Harness) -> None:
        self.config = config

    def measure(
        self, models: Sequence[Weights], rng_seed: int, progress: Callable[[int, int, str], None] | None = None
    ) -> dict[str, Any]:
        """Figures by the models' names, as `_harness_program.figures` gives them; ``BackendError`` with its last words."""
        config = self.config
        python = str(config.environment.absolute() / "bin" / "python") if config.environment else sys.executable
        with tempfile.TemporaryDirectory(prefix="provender-harness-") as folder:
            job = {
                "models": [{"name": one.name, "args": self._arguments(one)} for one in models],
                "tasks": [str(Path(t).resolve()) if t.endswith(_FILE) else t for t in config.tasks],
                "limit": config.limit,
                "num_fewshot": config.num_fewshot,
                "chat_template": config.chat_template,
                "batch_size": config.batch_size,
                "device": config.device,
                "rng_seed": rng_seed,
                "out": folder,
            }
            asked = Path(folder) / "job.json"
            asked.write_text(json.dumps(job), "utf-8")
            self._run([python, "-I", str(PROGRAM), str(asked)], Path(folder), progress)
            return {one.name: json.loads((Path(folder) / f"{one.name}.json").read_text("utf-8")) for one in models}

    def _arguments(self, one: Weights) -> dict[str, Any]:
        place = resolve(one.model)
        found: dict[str, Any] = {"pretrained": place.source, "dtype": self.config.dtype, "trust_remote_code": False}
        if place.revision is not None:
            found["revision"] = place.revision
        if one.adapter is not None:
            found["peft"] = str(one.adapter.resolve())
            if (one.adapter / "tokenizer_config.json").is_file():  # the adapter learned by its own chat template
                found["tokenizer"] = str(one.adapter.resolve())
        return found

    def _run(self, command: list[str], folder: Path, progress: Callable[[int, int, str], None] | None) -> None:
        """Run to the end, telling progress; the process is ended with us."""
        model = _Told(progress)
        with subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(self.config),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                assert process.stdout is not None, "it was asked for"
                for line in process.stdout:
                    model.hear(line)
                code = process.wait()
            except BaseException:  # a stop, or progress that raises: the process ends with us
                process.kill()
                raise
        if code != 0:
            raise BackendError(
                f"lm-evaluation-harness ended with {code}; it said: {model.last_words()}; `lm-eval ls tasks` lists the "
                "names it knows, and `download: true` lets it fetch a task's data once"
            )


class _Told:
    """Reads what the program says: our own lines, bars, and the rest, of which the end is kept for an error."""

    def __init__(self, progress: Callable[[int, int, str], None] | None) -> None:
        self._progress = progress
        self._model = ""
        self._lines: list[str] = []

    def hear(self, line: str) -> None:
        """One line; bars write several of them over one another, the last counts."""
        line = line.rstrip().rpartition("\r")[2]
        if line.startswith('{"model"'):
            self._model = str(json.loads(line)["model"])
            return
        bar = _BAR.search(line)
        if bar and self._progress:
            self._progress(int(bar[2]), int(bar[3]), f"{self._model}: {bar[1].lower()}")
        elif line.strip():
            self._lines = [*self._lines[-39:], line]

    def last_words(self) -> str:
        """The error and the lines above it, without the traceback's code."""
        told = [line for line in self._lines if not line.startswith((" ", "Traceback")) and "%|" not in line]
        return " / ".join(told[-3:]) or "nothing"


def _environment(config: Harness) -> Mapping[str, str]:
    """Variables of the process: nothing calls home, nothing is fetched unasked."""
    offline = {} if config.download else {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, **offline}


def _digest(path: Path, seen: frozenset[Path] = frozenset()) -> str:
    """Digest of a task file and of what it names: included files, data files beside it, modules of its functions."""
    path = path.resolve()
    try:
        content = path.read_bytes()
        told = yaml.load(content, Loader=_Names)  # a SafeLoader that leaves `!function` a text
    except OSError as error:
        raise UsageError(f"evaluate.harness.tasks: {path} cannot be read: {error.strerror}; name a task file") from None
    except yaml.YAMLError as error:
        raise UsageError(f"evaluate.harness.tasks: {path} is no YAML: {str(error).splitlines()[0]}") from None
    parts = [content]
    for name in sorted(_strings(told)):
        beside = path.parent / name.removeprefix("!function ")
        if name.startswith("!function "):
            beside = path.parent / (name.removeprefix("!function ").rpartition(".")[0].replace(".", "/") + ".py")
        if len(name) > 1000 or beside.resolve() in seen | {path} or not beside.is_file():
            continue
        parts.append(
            _digest(beside, seen | {path}).encode() if beside.suffix in _FILE else digest16(beside.read_bytes())
        )
    return digest16(b"\0".join(parts)).hex()


class _Names(yaml.SafeLoader):
    """YAML in which ``!function module.name`` is a text."""


_Names.add_constructor("!function", lambda loader, node: f"!function {loader.construct_scalar(node)}")  # type: ignore[arg-type]


def _strings(value: Any) -> set[str]:
    """Every text in lists and mappings."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return set[str]().union(*(_strings(item) for item in value))
    return set()
