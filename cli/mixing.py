"""A mixture as text: bars of the weights with their intervals, how often each example stands in it, what was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.console import safe, safe_lines
from cli.plain import table

_WIDTH = 32


def mixture_text(store: Path, ref: str) -> str:
    """The mixture ``ref`` of a store, as `mix` tells it; empty for what is no mixture."""
    from schemas.lineage import DatasetRef
    from storage.store import Store

    manifest = Store.open(store, create=False).describe(DatasetRef.parse(ref))
    summary: Mapping[str, Any] = manifest.summary
    return told(summary) if "weights" in summary else ""


def measured_text(store: Any, ref: Any) -> str:
    """What was measured to choose or mix a version: the bake-off it is or won, each upstream mixture's law and sentence."""
    lines: list[str] = []
    for manifest in store.upstream(ref):
        for bakeoff in [manifest] if manifest.ref.stage == "bakeoff" else _won(store, manifest):
            from cli.baking import bakeoff_text

            lines += ["", f"bake-off {bakeoff.ref}:", bakeoff_text(bakeoff.summary)]
        notes = manifest.summary.get("notes") if manifest.ref.stage == "mix" else None
        if isinstance(notes, Mapping) and notes.get("says"):
            lines += ["", f"mixture by {manifest.step.method.get('method')}, measured:", *_law(notes)]
            lines.append(safe_lines(str(notes["says"])))
    return "\n".join(lines)


def _won(store: Any, choice: Any) -> list[Any]:
    """The bake-offs in which this selection was the winner's."""
    if choice.ref.stage != "select":
        return []
    tried = [one for one in store.downstream(choice.ref) if one.ref.stage == "bakeoff"]
    return [one for one in tried if one.summary["choices"].get(f"{one.summary['winner']}/0") == str(choice.ref)]


def told(summary: Mapping[str, Any]) -> str:
    """From the summary of a mix step."""
    notes, weights = summary.get("notes") or {}, summary["weights"]
    intervals, repetition = notes.get("intervals") or {}, notes.get("repetition") or {}
    rows = [
        (
            safe(name),
            bar(share, intervals.get(name)),
            f"{100 * share:.1f} %",
            _range(intervals.get(name)),
            f"{summary['take'].get(name, 0):,}",
            f"{summary['available'].get(name, 0):,}",
            f"{repetition.get(name, 0):.2f}",
        )
        for name, share in sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    ]
    head = ("source", "weight", "", "95 %", "takes", "of", "times each")
    lines = [table(head, rows, (2, 3, 4, 5, 6))]
    lines += _law(notes)
    if notes.get("capped"):
        lines.append(f"capped by max_repeats: {safe(', '.join(notes['capped']))}")
    if notes.get("says"):
        lines.append(safe_lines(str(notes["says"])))
    return "\n".join(lines)


def bar(share: float, interval: list[float] | None = None) -> str:
    """``█`` up to the weight, ``╌`` on to the end of its interval: ``████╌╌``."""
    full = round(share * _WIDTH)
    end = round(interval[1] * _WIDTH) if interval else full
    return "█" * full + "╌" * max(0, end - full) or "▏"


def _range(interval: list[float] | None) -> str:
    return f"{100 * interval[0]:.0f}-{100 * interval[1]:.0f}" if interval else ""


def _law(notes: Mapping[str, Any]) -> list[str]:
    law, said = notes.get("law"), notes.get("predicted")
    if not law or not said:
        return []
    trust = law.get("rank_agreement")
    seen = "not known" if trust is None else f"{trust:.2f}"
    return [
        f"law over {law['runs']} runs: rank agreement with runs it had not seen {seen}{_off(law)}",
        "predicted loss: " + ", ".join(f"{name} {loss:.4f}" for name, loss in said.items()),
    ]


def _off(law: Mapping[str, Any]) -> str:
    """By how much the law was off, half of the time at most, then on average; a mixture of an older release has the mean only."""
    named = [("at the median", law.get("median_absolute_error")), ("on average", law.get("mean_absolute_error"))]
    known = ", ".join(f"{_nats(error)} {where}" for where, error in named if error is not None)
    return f", off by {known}, in nats (spread {law['spread_of_the_losses']:.3f})" if known else ""


def _nats(error: float) -> str:
    return f"{error:.4f}" if error < 10 else f"{error:,.0f}"
