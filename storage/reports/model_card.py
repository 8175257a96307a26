"""A trained model's own card tells how it did: its evaluations, written into README.md beside the weights."""

from pathlib import Path

from schemas.lineage import DatasetRef
from storage.questions.training import trainings
from storage.questions.words import number
from storage.reports.card import plain, table
from storage.reports.report import write_whole
from storage.store import Store

_BEGIN, _END = "<!-- provender: evaluation -->", "<!-- provender: end of evaluation -->"


def note_evaluations(store: Store, model: DatasetRef, folder: Path) -> bool:
    """Writes what every evaluation of ``model`` in this store found into the card in ``folder``; whether it changed.

    A card that is not there is not made. What stands between our two marks is ours, the rest is left as it is.
    """
    path = folder / "README.md"
    if not path.is_file():
        return False
    before = path.read_text("utf-8")
    head, mark, rest = before.partition(_BEGIN)
    tail = rest.partition(_END)[2] if mark else ""
    told = evaluation_section(store, model)
    after = head.rstrip("\n") + (f"\n\n{_BEGIN}\n\n{told}\n\n{_END}" if told else "") + (tail or "\n")
    if after == before:
        return False
    write_whole(path, after)
    return True


def evaluation_section(store: Store, model: DatasetRef) -> str:
    """Markdown of all evaluations, newest last; empty where there is none."""
    done = [m for m in store.downstream(model) if m.ref.stage == "evaluate"]
    parts: list[str] = []
    for run in trainings(done):
        rows = [
            (
                one.name if one.slice == "all" else f"{one.name} ({one.slice})",
                one.examples if one.examples is not None else "",
                _figure(one.before, one.before_low, one.before_high),
                number(one.value),
                f"{number(one.low)} to {number(one.high)}" if one.low is not None else "",
                _figure(one.change, one.change_low, one.change_high),
            )
            for one in run.metrics
            if one.value is not None
        ]
        on = dict(run.step.inputs).get("pool")
        parts.append(f"Evaluation {plain(run.step.ref)}" + (f" on {plain(on)}" if on else "") + ":")
        parts.append(table(("metric", "examples", "before", "after", "95 % interval", "change"), rows))
        parts += ["\n".join(f"- {plain(note)}" for note in run.notes)] if run.notes else []
    return "\n\n".join(["## Evaluation", *parts]) if parts else ""


def _figure(value: float | None, low: float | None, high: float | None) -> str:
    """A figure with its interval, where it has one."""
    if value is None:
        return ""
    return number(value) + (f" ({number(low)} to {number(high)})" if low is not None else "")
