"""What a training run leaves beside the weights: ``training.json`` (written last) and a card; and how a rerun knows it."""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.protocols import TrainingRun
from backends.train._card import write_card
from backends.train._four_bits import AS_TRAINED, FOUR_BITS
from backends.train._rows import TrainRows
from backends.weights import resolve
from schemas.errors import MissingSource, UsageError
from schemas.identity import fingerprint
from schemas.training import TrainedOn, Training

if TYPE_CHECKING:
    from backends.train._fit import Outcome
    from backends.train._preflight import Preflight

RECORD = "training.json"
_CLAIM = "run.json"


def identity_of(training: Training, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with the model as its weights' digest, the template as its text's digest, the learning rate settled."""
    known = {**fields, **resolve(training.model).identity(), "learning_rate": training.peak_rate}
    if resolve(training.model).is_local:
        del known["model"]
    if training.chat_template not in ("model", "chatml"):
        path = Path(training.chat_template)
        if not path.is_file():
            raise UsageError(
                f"chat_template {training.chat_template!r} is neither 'model' nor 'chatml' nor a file here"
            )
        known["chat_template"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return known


def dataset_digest(dataset: Path) -> str:
    """SHA-256 over the bytes of the Parquet file, or of the parts of a folder in order of name."""
    total = hashlib.sha256()
    for part in sorted(dataset.glob("*.parquet")) if dataset.is_dir() else [dataset]:
        with open(part, "rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def run_key(trainer: Mapping[str, Any], dataset: Path, rng_seed: int) -> str:
    """What makes two training runs the same: trainer, bytes of the dataset, seed."""
    if not dataset.exists():
        raise MissingSource(f"{dataset} is not there; give the Parquet file of a published dataset")
    return fingerprint({"trainer": dict(trainer), "dataset": dataset_digest(dataset), "rng_seed": rng_seed})


def claim(output_dir: Path, key: str) -> None:
    """Makes the folder this run's: checkpoints of any other run in it are removed, those of this one are kept.

    Raises ``UsageError`` where the folder holds things that no training run of ours put there.
    """
    from backends.train._fit import forget_checkpoints

    output_dir.mkdir(parents=True, exist_ok=True)
    marker = output_dir / _CLAIM
    if not marker.exists() and any(output_dir.iterdir()):
        raise UsageError(f"{output_dir} is not empty and holds no training run; give an empty folder for the model")
    if _read(marker).get("key") != key:
        forget_checkpoints(output_dir)
        write_json(marker, {"key": key})
    (output_dir / RECORD).unlink(missing_ok=True)


def recorded(output_dir: Path, key: str) -> TrainingRun | None:
    """The finished run of that key in the folder, if all its files are still there; else None."""
    known = _read(output_dir / RECORD)
    if known.get("key") != key or not all((output_dir / name).is_file() for name in known.get("files", [])):
        return None
    return TrainingRun(output_dir, known["metrics"], tuple(known["history"]), tuple(known["files"]))


def record(
    output_dir: Path,
    *,
    key: str,
    trainer: Mapping[str, Any],
    training: Training,
    rng_seed: int,
    about: TrainedOn,
    dataset: Path,
    rows: TrainRows,
    report: "Preflight",
    outcome: "Outcome",
) -> TrainingRun:
    """Writes card and record, the record last, and says what is in the folder."""
    losses = [entry["loss"] for entry in outcome.history]
    metrics = {
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "steps": float(outcome.steps),
        "seconds": round(outcome.seconds, 3),
        "examples": float(report.examples - report.without_loss),
        "learned_tokens": float(report.learned_tokens),
        **{f"last_{name}": value for name, value in _last_named(outcome.history).items()},
    }
    packages = ("torch", "transformers", "trl", "peft")
    packed = training.adapter.kind in FOUR_BITS
    known: dict[str, Any] = {
        "key": key,
        "trainer": dict(trainer),
        "base_model": training.model,
        **({"base_held_in": AS_TRAINED} if packed else {}),
        "rng_seed": rng_seed,
        "dataset": {**about.model_dump(), "digest": about.digest or dataset_digest(dataset)},
        "sources": rows.source_counts(),
        "licenses": rows.license_counts(),
        "metrics": metrics,
        "history": outcome.history,
        "first_batches": outcome.first_batches,
        "resumed_from_step": outcome.resumed_from,
        "preflight": report.as_json(),
        "versions": {n: metadata.version(n) for n in (*packages, *(("bitsandbytes",) if packed else ()))},
    }
    write_card(output_dir, known, training)
    files = tuple(sorted(str(p.relative_to(output_dir)) for p in output_dir.rglob("*") if p.is_file()))
    files = tuple(name for name in files if name not in (RECORD, _CLAIM))
    write_json(output_dir / RECORD, {**known, "files": files})
    return TrainingRun(output_dir, metrics, tuple(outcome.history), files)


def write_json(path: Path, value: Any) -> None:
    """Writes beside the place and renames, so that a kill leaves the old file or the new one, never half of it."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(value, indent=1))
    beside.replace(path)


def _last_named(history: list[Mapping[str, float]]) -> dict[str, float]:
    """The figures of preference training that say whether it worked."""
    last = history[-1]
    named = {"rewards/margins": "reward_margin", "rewards/accuracies": "reward_accuracy"}
    return {ours: last[theirs] for theirs, ours in named.items() if theirs in last}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):  # absent, or torn by a kill: the run is not known
        return {}
    return found if isinstance(found, dict) else {}
