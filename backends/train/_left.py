"""What a foreign trainer left in its output folder: the weights, its metrics and the loss of its steps."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import BackendError

#: A folder with one of these holds a model: an adapter's weights, or a model's whole or in parts.
_WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")
#: What only a pickle reader can open, and what only the trainer that wrote it needs.
_PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl"})
_STATE = "trainer_state.json"
_CONVERTED = frozenset({"pissa_converted", "converted"})  # of LLaMA-Factory, of ms-swift


def weights_in(output: Path) -> Path | None:
    """The folder with the final weights: the output itself, else the checkpoint that was written last.

    One that an adapter which moves base weights (PiSSA) was converted into goes first: only that fits the plain model.
    """
    found = [folder for folder in (output, *_folders(output)) if any((folder / name).is_file() for name in _WEIGHTS)]
    found.sort(key=lambda folder: not {folder.name, folder.parent.name} & _CONVERTED)
    return found[0] if found else None


def bring_up(weights: Path, folder: Path) -> list[str]:
    """Link (or copy) a model's files into ``folder``, where evaluation looks for them; their names. Pickles stay behind."""
    taken: list[str] = []
    for file in sorted(weights.iterdir()):
        there = folder / file.name
        if not file.is_file() or file.suffix in _PICKLED or file.name in _OURS:
            continue
        there.unlink(missing_ok=True)
        try:
            os.link(file, there)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(file, there)
        taken.append(file.name)
    return taken


def history_in(output: Path) -> list[dict[str, float]]:
    """One entry per logged step, from the newest state file of transformers' Trainer; empty where there is none."""
    for folder in (output, *_folders(output)):
        state = _read(folder / _STATE)
        entries = [_numbers(entry) for entry in state.get("log_history", []) if isinstance(entry, dict)]
        if entries:
            return [entry for entry in entries if "loss" in entry]
    return []


def metrics_in(file: Path, output: Path) -> dict[str, float]:
    """The numbers of the metrics file, or, where the command wrote none, of the summary that its trainer left.

    ``BackendError`` if the metrics file is something else than a JSON object.
    """
    if not file.is_file():
        return _numbers(_read(output / "all_results.json"))
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackendError(f"{file} is not JSON ({error}); write an object of numbers there") from error
    if not isinstance(found, dict):
        raise BackendError(f"{file} holds a {type(found).__name__}; write an object of numbers there")
    return _numbers(found)


#: Files of the run's own folder, which nothing that a trainer left may replace.
_OURS = frozenset({"run.json", "training.json", "metrics.json", "command.log", "README.md", _STATE})


def _folders(output: Path) -> list[Path]:
    """Folders inside, the newest first."""
    inside = [path for path in output.rglob("*") if path.is_dir()]
    return sorted(inside, key=lambda path: (path.stat().st_mtime_ns, str(path)), reverse=True)


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    kept = {k: v for k, v in entry.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {str(k): float(v) for k, v in kept.items()}


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing where there is none: these files belong to the trainer and are a courtesy."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
