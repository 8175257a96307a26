"""Where everything is after a run: the dataset, its report and card, the trained model, and what to type next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import StoreError
from schemas.lineage import DatasetRef
from storage.reports.card import write_card
from storage.reports.report import write_report
from storage.store import Store


def outcome_of(store: Path, ref: str, name: str, model_steps: list[str], *, write: bool) -> dict[str, Any]:
    """Paths and figures of a finished run; with ``write`` the report and the card are written into ``reports/``."""
    opened = Store.open(store)
    dataset = opened.resolve(ref)
    manifest = opened.describe(dataset)
    tag = next((t for t in opened.tags() if t.name == name), None)
    gate: Mapping[str, Any] = manifest.summary.get("gate") or {}
    found: dict[str, Any] = {
        "dataset": str(dataset),
        "tag": f"{tag.name}@v{tag.number}" if tag else None,
        "examples": manifest.counts.rows_out,
        "digest": manifest.digest,
        "files": [str(path) for path in opened.paths(dataset, "train")],
        "gate": gate.get("status", "unchecked"),
        "gate_open_points": [check for check in gate.get("checks") or () if check.get("status") != "passed"],
        "report": None,
        "card": None,
        "model": None,
        "evaluation": None,
        "evaluation_notes": [],
    }
    for step in model_steps:
        try:
            done = opened.describe(DatasetRef.parse(step))
        except StoreError:
            continue  # triggered on another pool, or refused by the gate: its own run says so
        if done.step.stage == "finetune":
            found["model"] = done.summary.get("output_dir")
        elif done.step.stage == "evaluate":  # one on examples, one on benchmarks
            found["evaluation"] = [*(found["evaluation"] or ()), *(done.summary.get("measured") or ())]
            found["evaluation_notes"] += list(done.summary.get("notes") or ())
    if write:
        folder = opened.root / "reports" / name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        found["report"] = str(write_report(opened, str(dataset), folder / "report.html") or folder / "report.html")
        found["card"] = str(write_card(opened, str(dataset), folder / "README.md") or folder / "README.md")
    found["examples_to_trace"] = some_examples(opened, dataset)
    return found


def some_examples(store: Store, dataset: DatasetRef) -> dict[str, str]:
    """One kept and one dropped example, for `provender trace`."""
    found = {"kept": store.part(dataset, "train").head(1)["id"][0].hex()}
    for step in reversed(store.upstream(dataset)):
        for name in step.parts:
            if not name.startswith("verdicts/"):
                continue
            verdicts = store.part(step.ref, name).with_row_index("at")
            dropped = verdicts.filter(verdicts["fate"] == 1)
            if dropped.height and step.step.stage != "mix":
                source = dict(step.step.inputs)[name.removeprefix("verdicts/")]
                position = store.positions(source)[dropped["at"].to_list()[:1]]
                found["dropped"] = store.take(source, position)["id"][0].hex()
                return found
    return found
