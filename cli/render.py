"""Answers as plain text for a terminal: nothing a dataset wrote can drive it, every figure keeps its "unknown"."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.costs import costs, span_of
from cli.graph import lineage_dot, lineage_mermaid, lineage_text
from cli.paint import narrow
from cli.plain import block, line, table
from cli.row_losses import version_losses
from cli.trace_text import trace_text
from storage.files.places import shown
from storage.questions.catalogue import Catalogue
from storage.questions.changed_rows import ChangedPage
from storage.questions.diff import Count, Diff, delta_words
from storage.questions.funnel import change_words
from storage.questions.query import Answer
from storage.questions.show import VersionPage
from storage.questions.training import Training, telling
from storage.questions.views import FunnelRow, Histogram
from storage.questions.words import counted, number, seconds, share, size, usd, when

__all__ = [
    "catalogue_text",
    "changed_text",
    "columns_text",
    "diff_text",
    "lineage_dot",
    "lineage_mermaid",
    "lineage_text",
    "outcome_text",
    "plan_table",
    "show_text",
    "table_text",
    "trace_text",
]

_BLOCKS = " ▁▂▃▄▅▆▇█"


def columns_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows of mappings as a table of some of their keys."""
    if not rows:
        return "nothing"
    figures = [i for i, name in enumerate(columns) if all(isinstance(row.get(name), int | float) for row in rows)]
    head = [name.replace("_", " ") for name in columns]
    return table(head, [[_cell(row.get(name)) for name in columns] for row in rows], figures)


def _cell(value: Any) -> Any:
    return number(value) if isinstance(value, float) else value


def table_text(answer: Answer) -> str:
    """The rows of a query."""
    if not answer.columns:
        return "nothing"
    rows = [["null" if cell is None else _cell(cell) for cell in row] for row in answer.rows]
    figures = [
        i for i in range(len(answer.columns)) if rows and all(isinstance(r[i], int | float) for r in answer.rows)
    ]
    told = table(answer.columns, rows, figures, whole=[i for i, name in enumerate(answer.columns) if name == "id"])
    return told + (f"\n… more than {len(rows):,} rows; --rows raises the limit" if answer.more else "")


def catalogue_text(listed: Catalogue) -> str:
    """``provender ls``."""
    told: list[str] = []
    if listed.rows:
        rows = [
            (
                row.tag or row.ref,
                number(row.rows) if row.rows is not None else "unreadable",
                f"~{row.tokens:,}" if row.tokens is not None else "",
                size(row.size_bytes) if row.size_bytes is not None else "",
                ", ".join(row.sources[:3]) + (" …" if len(row.sources) > 3 else ""),
                row.gate if row.stage == "publish" else "",
                when(row.made_at) if row.made_at else "",
                row.ref if row.tag else row.says,
            )
            for row in listed.rows
        ]
        told.append(
            table(
                ("dataset", "examples", "tokens", "size", "sources", "gate", "made", "ref"),
                rows,
                (1, 2, 3),
                whole=(0, 6),
            )
        )
    else:
        told.append("no dataset has a name yet; `provender ls --all` lists every version")
    told.append(f"{counted(listed.versions, 'version')} in the store")
    told += [f"damaged: {line(one.place)}: {line(one.problem)}" for one in listed.damage]
    told += [f"damaged: {line(row.name)}: {line(row.problem)}" for row in listed.rows if row.problem]
    return "\n".join(told)


def show_text(page: VersionPage) -> str:
    """``provender show``."""
    name = ", ".join(f"{tag.name}@v{tag.number}" for tag in page.tags) or page.ref
    told = [f"{line(name)}  {page.ref}", line(page.headline) + ".", ""]
    told += [f"damaged: {line(one.place)}: {line(one.problem)}" for one in page.damage]
    most = max([max(row.rows_in + row.created, row.rows_out) for row in page.funnel] or [1])
    rows = [
        (
            step_name(row.step.stage, row.step.method),
            bar(row, most, 12 if narrow() else 24),
            number(row.rows_out),
            change_words(row),
            *(() if narrow() else (row.step.ref[-16:],)),
        )
        for row in page.funnel
    ]
    head = ("step", "rows", "out", "what happened", "fingerprint")[: 4 if narrow() else 5]
    told += [table(head, rows, (2,), whole=(1, 4)), ""]
    if page.reasons:
        reasons = [
            (
                one.rule,
                one.says,
                one.stage,
                number(one.rows),
                _percent(one.share_fraction),
                _threshold(one.threshold, one.direction),
            )
            for one in sorted(page.reasons, key=lambda reason: -reason.rows)
        ]
        told += [table(("rule", "says", "step", "rows", "of input", "threshold"), reasons, (3, 4)), ""]
    told += [histogram_text(one) for one in page.histograms[:6]]
    if page.composition:
        made_of = [
            (row.source, row.license or "unknown", row.synthetic_depth, number(row.rows), share(row.rows, page.rows))
            for row in page.composition[:12]
        ]
        told += ["", table(("source", "licence", "synthetic depth", "rows", "share"), made_of, (2, 3, 4))]
    if page.contamination:
        hits = [
            (row.benchmark, number(row.rows_checked), row.hits, row.dropped, row.kept, row.ref)
            for row in page.contamination
        ]
        told += [
            "",
            table(("benchmark", "checked", "hits", "dropped", "flagged", "step"), hits, (1, 2, 3, 4), whole=(5,)),
        ]
    else:
        told += ["", "contamination: unknown, no benchmark was looked for"]
    told += [f"gate {page.gate}" + ("" if page.checks else " (nothing was checked)")]
    told += [f"  {check.name}: {check.status}, {line(check.says)}" for check in page.checks]
    if page.mixture:
        mixed = [
            (
                row.pool,
                _percent(row.weight_fraction),
                _percent(row.share_fraction),
                number(row.rows),
                number(row.examples),
            )
            for row in page.mixture
        ]
        told += ["", table(("pool", "asked", "got", "rows", "distinct"), mixed, (1, 2, 3, 4))]
    calls = page.money.prompt_tokens + page.money.completion_tokens
    told += ["", f"model calls {page.money.calls:,}, tokens {calls:,}, cost: {usd(page.money)}"]
    told += [
        f"  {use.stage}: {line(use.model)}, {counted(use.money.calls, 'call')}, {usd(use.money)}" for use in page.models
    ]
    told += [training_text(run) for run in page.training]
    told += [version_losses(one) for one in page.losses]
    told += [
        "",
        f"time in steps {seconds(page.seconds)}, digest {page.digest[:16]}, {size(page.size_bytes)}",
        "",
        "reproduce:",
    ]
    told.append(block(page.reproduce))
    return "\n".join(told)


def step_name(stage: str, method: str) -> str:
    """``filter clear``; the stage alone where its method has no other name."""
    return stage if stage == method else f"{stage} {method}"


def bar(row: FunnelRow, most: int, width: int = 24) -> str:
    """A step's rows: ``█`` stays, ``▒`` edited, ``░`` dropped."""
    unit = width / max(most, 1)
    gone = row.rejected + row.quarantined
    stays = (row.rows_in or row.rows_out) - gone - row.edited if row.rows_in else row.rows_out
    told = "".join(
        char * (max(round(rows * unit), 1) if rows else 0)
        for char, rows in (("█", stays), ("▒", row.edited), ("░", gone))
    )
    return told[:width]


def histogram_text(one: Histogram) -> str:
    """A histogram as one line of blocks, with a stroke where each threshold stands."""
    heights = [kept + dropped for kept, dropped in zip(one.kept, one.dropped, strict=True)]
    most = max(heights) or 1
    blocks = [_BLOCKS[max(1, round(h / most * 8)) if h else 0] for h in heights]
    low, high = one.edges[0], one.edges[-1]
    for _, threshold, _ in sorted(one.rules, key=lambda rule: -rule[1]):
        if low <= threshold <= high:
            blocks.insert(round((threshold - low) / ((high - low) or 1) * len(heights)), "│")
    what = line(f"{one.stage} {one.method} {one.name}")
    room = 20 if narrow() else 34
    left, right = number(low, 3), number(high, 3)
    told = f"{what if len(what) <= room else what[: room - 1] + '…':<{room}} {left:>8} {''.join(blocks)} {right}"
    if narrow():
        drawn = ", ".join(f"{'≥' if way == 'keep-above' else '≤'} {number(cut)}" for _, cut, way in one.rules)
        return told + (f"  {drawn}" if drawn else "")
    drawn = ", ".join(_threshold(threshold, direction) for _, threshold, direction in one.rules)
    return told + (f"   {drawn} stays" if drawn else "")


def result_lines(evaluation: Sequence[Mapping[str, Any]]) -> list[str]:
    """Metrics with their 95 % intervals beside the untuned model's: over all rows, and of each task where there are several."""
    told: list[str] = []
    for one in evaluation:
        where = str(one.get("slice", "all"))
        if one.get("value") is None or not (where == "all" or where.startswith("task=")):
            continue
        words = f"{line(str(one['metric']))}{'' if where == 'all' else f' ({line(where)})'} {number(one['value'])}"
        if one.get("low") is not None:
            words += f" [{number(one['low'])}, {number(one['high'])}]"
        if one.get("before") is not None:
            words += f", before {number(one['before'])}"
        if one.get("before_low") is not None:
            words += f" [{number(one['before_low'])}, {number(one['before_high'])}]"
        if one.get("change_low") is not None:
            words += f", change {number(one['change'])} [{number(one['change_low'])}, {number(one['change_high'])}]"
        told.append(words)
    return told


def training_text(run: Training) -> str:
    """A training or evaluation in a few lines."""
    made_by = next((ref for role, ref in run.step.inputs if role == "model"), "model unknown")
    told = [f"{run.kind} {line(run.model or made_by)}: {run.step.ref}"]
    for metric in telling(run.metrics):
        words = f"  {line(metric.name)}" + (f" ({line(metric.slice)})" if metric.slice != "all" else "")
        words += f" {number(metric.value)}"
        if metric.low is not None and metric.high is not None:
            words += f" [{number(metric.low)}, {number(metric.high)}]"
        if metric.before is not None:
            words += f", before {number(metric.before)}"
            if metric.before_low is not None and metric.before_high is not None:
                words += f" [{number(metric.before_low)}, {number(metric.before_high)}]"
        if metric.change is not None:
            words += f", change {number(metric.change)}"
            if metric.change_low is not None and metric.change_high is not None:
                words += f" [{number(metric.change_low)}, {number(metric.change_high)}]"
        told.append(words)
    opened = [f"  gate overridden: {line(run.gate)}"] if run.gate else []
    return "\n".join([*told, *opened, *(f"  {line(note)}" for note in run.notes)])


def diff_text(found: Diff) -> str:
    """``provender diff``."""
    told = [line(found.sentence) + ".", ""]
    told += [f"  {line(change.says)}" for change in found.changes]
    for title, why in (("removed", found.why_removed), ("added; before, they were", found.why_added)):
        for one in why:
            told += ["", f"{one.rows:,} {title}: {line(one.says)}"]
            told += [
                f"    {row.id[:12]} {line(row.source)}{f', score {number(row.score)}' if row.score is not None else ''}: "
                f"{line(row.preview)}"
                for row in one.some[:4]
            ]
    sections: list[tuple[str, Sequence[Count]]] = [
        ("rows", found.counts), ("source", found.sources), ("benchmark hits", found.contamination), ("metric", found.metrics),
    ]  # fmt: skip
    for title, counts in sections:
        if counts:
            told += ["", f"{title}:", *(f"  {line(count.name)}: {delta_words(count)}" for count in counts)]
    if found.shifts:
        rows = [
            (
                f"{s.stage} {s.method} {s.name}",
                number(s.before_mean),
                number(s.after_mean),
                number(s.before_median),
                number(s.after_median),
            )
            for s in found.shifts
        ]
        told += ["", table(("score", "mean before", "after", "median before", "after"), rows, (1, 2, 3, 4))]
    return "\n".join(told)


def changed_text(page: ChangedPage) -> str:
    """``provender diff --rows``."""
    edited = page.which == "edited"
    lines = [(row.id, row.source, row.prompt, *((row.became or "",) if edited else ())) for row in page.rows]
    told = table(
        ("example", "source", "begins", *(("became",) if edited else ())), lines, (), whole=(0, 3) if edited else (0,)
    )
    more = f"\n… {page.total - page.start - len(lines):,} more: --start {page.next}" if page.next is not None else ""
    return f"{told if lines else 'none'}{more}"


def _percent(fraction: float | None) -> str:
    return "unknown" if fraction is None else f"{100 * fraction:.1f}%"


def _threshold(threshold: float | None, direction: str) -> str:
    if threshold is None:
        return ""
    side = {"keep-above": "above ", "keep-below": "below "}.get(direction, "")
    return f"{side}{number(threshold)}"


def plan_table(planned: Any) -> str:
    """``provender plan``: each step with its action and the reason, and what it would cost in calls, tokens and money."""
    rows = [
        (*(step_name(s.stage, s.method), s.action, s.because, span_of(s.rows), span_of(s.calls)), *costs(s))
        for s in planned.steps
    ]
    told = table(("step", "action", "because", "rows", "LLM calls", "tokens", "cost"), rows, (3, 4, 5, 6))
    return f"{told}\n\n{planned.to_run} of {counted(len(planned.steps), 'step')} to run; the dataset will be {planned.dataset}"


def outcome_text(written: Mapping[str, Any], store: Path, recipe: Path | None = None) -> str:
    """Where everything is after a run, and what to type next."""
    name = written.get("tag") or written["dataset"]
    option = "" if str(store) == "store" else f" --store {shown(store)}"
    told = [
        f"dataset  {line(str(name))}: {counted(int(written['examples']), 'example')}, gate {written['gate']}",
        f"         {written['dataset']}, digest {str(written['digest'])[:16]}",
    ]
    for point in written.get("gate_open_points") or ():
        told.append(f"         gate, {point['name']}: {point['status']}, {line(str(point['says']))}")
    told += [f"         {path}" for path in written["files"]]
    for label in ("model", "report", "card"):
        if written.get(label):
            told.append(f"{label:<8} {line(str(written[label]))}")
    told += [f"result   {text}" for text in result_lines(written.get("evaluation") or ())]
    told += [f"         {line(str(note))}" for note in written.get("evaluation_notes") or ()]
    told += ["", "next:"]
    for fate, example in (written.get("examples_to_trace") or {}).items():
        told.append(f"  provender trace {example[:12]}{option}   # why this one was {fate}")
    told += [
        f"  provender show {line(str(name))}{option}",
        f"  provender lineage {line(str(name))}{option}",
        f"  provender serve{option}",
    ]
    if recipe is not None:
        told.append(f"  provender plan {recipe}{option}   # nothing left to do; change a line and see what would run")
    return "\n".join(told)
