"""The dataset card of a version: README.md with Hugging Face front matter, readable without the store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from schemas.lineage import DatasetRef
from storage.questions.funnel import change_words
from storage.questions.recorded_recipe import recipe_yaml
from storage.questions.show import show
from storage.questions.views import VersionPage
from storage.questions.words import amount, amount_note, counted, number, share
from storage.reports.report import write_whole
from storage.store import Store

#: What the hub calls licences; anything else is "other" with its own words in ``license_name``.
HUB_LICENSES: Mapping[str, str] = {
    name.lower(): name
    for name in (
        "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0", "odc-by", "bsd-3-clause", "gpl-3.0", "unlicense",
    )
}  # fmt: skip

_HARMLESS = str.maketrans({char: f"&#{ord(char)};" for char in "\\`*[]<>|#&~"})

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def write_card(store: Store, version: DatasetRef | str, path: str | Path) -> Path:
    """Writes the card of a ref or tag and returns its path."""
    return write_whole(Path(path), card(show(store, version)))


def card(page: VersionPage) -> str:
    """The card as Markdown. Text that a dataset chose stands in it escaped or in code."""
    name = f"{page.tags[0].name}@v{page.tags[0].number}" if page.tags else page.ref
    parts = [
        f"---\n{yaml.safe_dump(front_matter(page, name), sort_keys=False, allow_unicode=True)}---",
        f"# {plain(name)}",
        f"{plain(page.headline)}.",
        "Made by Provender: every row has a pedigree in the store that this set came from (`provender trace <id>`).",
        "## Figures",
        _figures(page),
        "## Sources and licences",
        _sources(page),
        "## How it was made",
        _steps(page),
        "## Why rows left",
        _reasons(page),
        "## Contamination",
        _contamination(page),
        *(["## Mixture", _mixture(page)] if page.mixture else []),
        "## Models that were called",
        _models(page),
        *(["## What training on it did", _training(page)] if page.training else []),
        "## Reproduce",
        fenced(page.reproduce, "sh"),
        *([f"Recipe:\n\n{fenced(recipe_yaml(page.recipe) or '', 'yaml')}"] if page.recipe is not None else []),
        "## Limits",
        _limits(page),
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(page: VersionPage, name: str) -> dict[str, Any]:
    """What the hub reads. The language is not stated: nobody measured it."""
    names = sorted({row.license for row in page.composition if row.license})
    known = [HUB_LICENSES[one.lower()] for one in names if one.lower() in HUB_LICENSES]
    matter: dict[str, Any] = {"pretty_name": name}
    if names and len(known) == len(names) and all(row.license for row in page.composition):
        matter["license"] = known[0] if len(known) == 1 else known
    else:
        matter["license"] = "other" if names else "unknown"
        if names:
            matter["license_name"] = "mixed"
    sizes = [label for limit, label in SIZES if page.rows < limit]
    matter["size_categories"] = [sizes[0] if sizes else "n>10M"]
    matter["task_categories"] = ["text-generation"]
    tags = ["provender", "instruction-tuning"]
    if any(row.synthetic_depth for row in page.composition):
        tags.append("synthetic")
    matter["tags"] = tags
    matter["provender"] = {"ref": page.ref, "digest": page.digest, "gate": page.gate}
    return matter


def plain(text: str) -> str:
    """Text on one line with everything that Markdown or HTML would act on made harmless."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line.translate(_HARMLESS).replace("://", ":&#47;&#47;")


def fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    run = longest = 0
    for char in text:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table with escaped cells."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(plain(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _figures(page: VersionPage) -> str:
    return table(
        ("what", "figure"),
        (
            ("examples", f"{page.rows:,}"),
            ("words", f"{page.words:,}" if page.words is not None else "unknown"),
            ("ref", page.ref),
            ("digest (SHA-256)", page.digest),
            ("gate before training", page.gate),
            ("model calls", f"{page.money.calls:,}"),
            ("cost of the calls", " ".join(filter(None, (amount(page.money), f"({amount_note(page.money)})")))),
        ),
    )


def _sources(page: VersionPage) -> str:
    if not page.composition:
        return "Unknown."
    rows = [
        (one.source, one.license or "unknown", one.synthetic_depth, f"{one.rows:,}", share(one.rows, page.rows))
        for one in page.composition
    ]
    note = "Synthetic depth 0 is given text; n was written by a model from examples of depth n - 1."
    return table(("source", "licence", "synthetic depth", "rows", "share"), rows) + f"\n\n{note}"


def _steps(page: VersionPage) -> str:
    return table(
        ("step", "method", "rows", "ref"),
        [(row.step.stage, row.step.says, change_words(row), row.step.ref) for row in page.funnel],
    )


def _reasons(page: VersionPage) -> str:
    if not page.reasons:
        return "No step dropped a row."
    rows = [
        (one.rule, one.says, one.stage, f"{one.rows:,}", number(one.threshold) if one.threshold is not None else "")
        for one in page.reasons
    ]
    return table(("rule", "says", "step", "rows", "threshold"), rows)


def _contamination(page: VersionPage) -> str:
    told = [f"- {plain(check.name)}: {check.status} ({plain(check.says)})" for check in page.checks]
    if not page.contamination:
        return "\n".join(["No benchmark was looked for: contamination is unknown.", *told])
    rows = [(one.benchmark, f"{one.rows_checked:,}", one.hits, one.dropped, one.kept) for one in page.contamination]
    return "\n\n".join(
        [table(("benchmark", "rows checked", "hits", "dropped", "kept, flagged"), rows), "\n".join(told)]
    )


def _mixture(page: VersionPage) -> str:
    def percent(value: float | None) -> str:
        return "unknown" if value is None else f"{100 * value:.1f} %"

    rows = [
        (one.pool, percent(one.weight_fraction), percent(one.share_fraction), number(one.rows), number(one.examples))
        for one in page.mixture
    ]
    return table(("pool", "asked", "got", "rows", "distinct examples"), rows)


def _models(page: VersionPage) -> str:
    if not page.models:
        return "None."
    rows = [
        (
            use.stage,
            use.model,
            f"{use.money.calls:,}",
            f"{use.money.prompt_tokens + use.money.completion_tokens:,}",
            amount(use.money),
        )
        for use in page.models
    ]
    return table(("step", "model", "calls", "tokens", "cost"), rows)


def _training(page: VersionPage) -> str:
    rows = [
        (
            run.step.ref,
            run.model or "unknown",
            metric.name if metric.slice == "all" else f"{metric.name} ({metric.slice})",
            number(metric.before) if metric.before is not None else "",
            f"{number(metric.before_low)} to {number(metric.before_high)}" if metric.before_low is not None else "",
            number(metric.value),
            f"{number(metric.low)} to {number(metric.high)}" if metric.low is not None else "",
        )
        for run in page.training
        for metric in run.metrics
    ]
    opened = [f"- gate of {run.step.ref} overridden: {plain(run.gate)}" for run in page.training if run.gate]
    notes = dict.fromkeys([*opened, *(f"- {plain(note)}" for run in page.training for note in run.notes)])
    return "\n\n".join(
        filter(
            None,
            [
                table(("step", "model", "metric", "before", "95 % interval", "after", "95 % interval"), rows),
                "\n".join(notes),
            ],
        )
    )


def _limits(page: VersionPage) -> str:
    told = ["The language of the examples was not measured.", "Facts in the answers were not checked."]
    unknown = sum(row.rows for row in page.composition if not row.license)
    if unknown:
        told.append(f"{counted(unknown, 'row')} came with no stated licence.")
    written = sum(row.rows for row in page.composition if row.synthetic_depth)
    if written:
        told.append(f"{counted(written, 'row')} ({share(written, page.rows)}) were written by a model.")
    if not page.contamination:
        told.append("It was not compared with any benchmark.")
    if page.nondeterministic:
        told.append("A step on the way is not repeatable; its first result counts.")
    return "\n".join(f"- {one}" for one in told)
