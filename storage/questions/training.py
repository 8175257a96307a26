"""What fine-tuning and evaluation steps found out, as their manifests' summaries hold it."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.lineage import Manifest
from storage.questions.funnel import seconds_of
from storage.questions.views import Metric, Training
from storage.questions.words import step_view


def trainings(manifests: Sequence[Manifest]) -> tuple[Training, ...]:
    """Training and evaluation steps in order; an evaluation is of the model that its fine-tuning step names."""
    names = {str(manifest.ref): model_name(manifest) for manifest in manifests}
    found: list[Training] = []
    for manifest in manifests:
        one = training_of(manifest)
        tuned = next((ref for _, ref in one.step.inputs if names.get(ref)), None)
        if one.model is None and tuned is not None:
            one = one.model_copy(update={"model": f"{names[tuned]} after {tuned}"})
        found.append(one)
    return tuple(found)


def training_of(manifest: Manifest) -> Training:
    """Metrics, intervals and the loss curve of a ``finetune`` or ``evaluate`` step; what is absent stays empty."""
    summary = manifest.summary
    return Training(
        step=step_view(manifest),
        kind="evaluate" if manifest.ref.stage == "evaluate" else "finetune",
        model=model_name(manifest),
        metrics=metrics_of(summary),
        history=history_of(summary),
        seconds=seconds_of(manifest),
        output=str(summary["output_dir"]) if summary.get("output_dir") else None,
        notes=tuple(str(note) for note in summary.get("notes") or ()) if manifest.ref.stage == "evaluate" else (),
        gate=opened_gate(summary),
    )


def opened_gate(summary: Mapping[str, Any]) -> str:
    """What a person overrode so that this training could begin, with the reason they wrote; empty where nobody did."""
    gate: Any = summary.get("gate")
    checks: Any = gate.get("checks") if isinstance(gate, Mapping) else None
    return "; ".join(
        f"{check.get('name')}: {check.get('says')}"
        for check in checks or ()
        if isinstance(check, Mapping) and check.get("status") == "overridden"
    )


def metrics_of(summary: Mapping[str, Any]) -> tuple[Metric, ...]:
    """``measured`` (an evaluation's report, alone or under ``report``), then plain ``metrics``."""
    report: Any = summary.get("report") or {}
    measured: Any = summary.get("measured") or (report.get("measured") if isinstance(report, Mapping) else None) or ()
    found = [
        Metric(
            name=str(item.get("metric", "")),
            slice=str(item.get("slice", "all")),
            examples=item.get("examples"),
            **{key: figure(item.get(key)) for key in ("value", "low", "high", "before", "before_low", "before_high")},
            **{key: figure(item.get(key)) for key in ("change", "change_low", "change_high")},
        )
        for item in measured
        if isinstance(item, Mapping)
    ]
    plain: Any = summary.get("metrics") or {}
    named = {metric.name for metric in found}
    found += [Metric(name=str(key), value=figure(value)) for key, value in plain.items() if key not in named]
    return tuple(found)


def telling(metrics: Sequence[Metric]) -> list[Metric]:
    """Metrics that have a value, without the slices that hold every example: they say the same as the whole."""
    whole = {(one.name, one.examples): one.value for one in metrics if one.slice == "all"}
    return [
        one
        for one in metrics
        if one.value is not None
        and (one.slice == "all" or one.examples is None or whole.get((one.name, one.examples)) != one.value)
    ]


def history_of(summary: Mapping[str, Any]) -> tuple[Mapping[str, float], ...]:
    """One entry per logged step: its numbers."""
    entries: Any = summary.get("history") or ()
    if not isinstance(entries, Sequence):
        return ()
    numbers = [
        {str(key): float(value) for key, value in entry.items() if figure(value) is not None}
        for entry in entries
        if isinstance(entry, Mapping)
    ]
    return tuple(entry for entry in numbers if entry)


def figure(value: Any) -> float | None:
    """A number, or None for what is not one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def model_name(manifest: Manifest) -> str | None:
    """The model that was trained or evaluated, by the name its step gives it; None where only a step is named."""
    summary = manifest.summary
    named: list[Any] = [summary.get("base_model"), manifest.step.method.get("model"), summary.get("model")]
    named += [backend.get("model") for backend in manifest.step.backends.values() if isinstance(backend, Mapping)]
    for name in named:
        if isinstance(name, Mapping):
            name = name.get("name") or name.get("model")
        if isinstance(name, str) and name:
            return name
    return None
